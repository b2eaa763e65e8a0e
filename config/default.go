package config

import "time"

// Default is the configuration of an empty file: the only place of defaults. app and currency have none.
func Default() Config {
	return Config{
		Kafka:       Kafka{Brokers: []string{"127.0.0.1:9092"}, SASL: SASL{Mechanism: "none"}},
		Inputs:      Inputs{Purchases: "purchases", Interactions: "interactions", Partitioner: "murmur2", Lost: "stop", Misrouted: "dead_letter"},
		MinorDigits: -1,
		Time: Time{
			EventTime:        "record",
			Clock:            "broker",
			Zone:             "UTC",
			Backfill:         "silent",
			MaxFuture:        Duration(5 * time.Minute),
			Grace:            Duration(2 * time.Second),
			AnnounceLateOver: Duration(7 * day),
		},
		Rules: Rules{
			Name:        "rfm11",
			Segments:    []Segment{},
			RecencyDays: [4]int{30, 90, 180, 365},
			Frequency:   [4]int{2, 3, 5, 10},
			Money:       Money{Mode: "fixed", Cuts: [4]Decimal{"50.00", "100.00", "200.00", "400.00"}, InitialCuts: []Decimal{}},
			WindowDays:  730,
		},
		Churn: Churn{
			// Nobody has fitted a model to this shop yet.
			Method: "heuristic",
			// Fitted to the public CDNOW sample (r .525, alpha 6.183 weeks, a .891, b 1.614): a start, for those who ask for it.
			Params:      ChurnParams{R: 0.525, Alpha: 43.281, A: 0.891, B: 1.614, ShopGapDays: 45},
			HorizonDays: 90,
			Bands:       [2]Decimal{"0.33", "0.66"},
			Hysteresis:  "0.03",
			Jump:        "0.15",
		},
		Value:  Value{HorizonDays: 3 * 365, AnnualRate: "0.1", Margin: "1"},
		Limits: Limits{MaxRecordBytes: 1 << 20, FutureHours: 24, OrdersPerCustomer: 512, RefundsPerCustomer: 1024, ConsentPurposes: 32},
		Cycle: Cycle{
			Records:            10000,
			Bytes:              4 << 20,
			Timers:             2000,
			Sweep:              2000,
			Min:                Duration(25 * time.Millisecond),
			Deadline:           Duration(10 * time.Second),
			TransactionTimeout: Duration(15 * time.Second),
			FetchBuffer:        8 << 20,
		},
		Group: Group{SessionTimeout: Duration(10 * time.Second), Heartbeat: Duration(2 * time.Second)},
		State: State{
			Dir:        "./asiduo-data",
			BlockCache: 64 << 20,
			HotCache:   256 << 20,
			Memtable:   4 << 20,
			FlushEvery: Duration(10 * time.Second),
			MinFree:    256 << 20,
		},
		Outputs: Outputs{Profiles: true, ReplicationFactor: 3},
		Archive: Archive{Every: Duration(24 * time.Hour)},
		API:     API{Listen: "127.0.0.1:8080", Access: Access{Tokens: []Secret{}, Rate: 1000}},
		Admin:   Admin{Listen: "127.0.0.1:9100", Access: Access{Tokens: []Secret{}, Rate: 100}},
		Tracing: Tracing{Sample: 0.1},
		Log:     Log{Level: "info", Format: "text"},
	}
}
