// Package config is what an operator may set: the structure of the one YAML file, its defaults, and the checks that
// find every fault at once. It knows none of the other packages; they are handed what they need.
package config

// Config is the whole configuration. Keys are the json names; every key has a default except those marked required.
type Config struct {
	App         string  `json:"app" jsonschema:"required,pattern=^[a-z0-9-]+$,maxLength=100" jsonschema_description:"Application id: prefix of topics, group and transactional ids, first part of event ids. Lower-case letters, digits and hyphens."`
	Shards      int32   `json:"shards" jsonschema:"minimum=0" jsonschema_description:"Number of shards, fixed when the topics are created; must divide the partition count of every input. 0: chosen by init."`
	Kafka       Kafka   `json:"kafka" jsonschema_description:"How to reach the brokers."`
	Inputs      Inputs  `json:"inputs" jsonschema_description:"The topics that are read."`
	Time        Time    `json:"time" jsonschema_description:"Whose clock counts, and from when changes are announced."`
	Currency    string  `json:"currency" jsonschema:"required,pattern=^[A-Z]{3}$" jsonschema_description:"Currency of the pipeline (ISO 4217). Orders in others need a rate in the record."`
	MinorDigits int     `json:"minor_digits" jsonschema:"minimum=-1,maximum=6" jsonschema_description:"Digits after the decimal point of that currency. -1: as ISO 4217 says."`
	Rules       Rules   `json:"rules" jsonschema_description:"The segment rules."`
	Churn       Churn   `json:"churn" jsonschema_description:"The chance that a customer does not come back."`
	Value       Value   `json:"value" jsonschema_description:"What a customer will bring in. Told once a model with spending is published (asiduo model publish --from)."`
	Limits      Limits  `json:"limits" jsonschema_description:"What a record or a customer may be at most; what is beyond goes to dead letters."`
	Cycle       Cycle   `json:"cycle" jsonschema_description:"One transaction of one shard."`
	Group       Group   `json:"group" jsonschema_description:"Membership of the consumer group, which hints who owns which shard."`
	State       State   `json:"state" jsonschema_description:"Where and how customers are kept."`
	Outputs     Outputs `json:"outputs" jsonschema_description:"What is written besides events."`
	Archive     Archive `json:"archive" jsonschema_description:"Parquet snapshots."`
	API         API     `json:"api" jsonschema_description:"HTTP: customers and health."`
	Admin       Admin   `json:"admin" jsonschema_description:"HTTP: metrics, profiles of the process, commands, the whole state. Keep it private."`
	Monitor     Monitor `json:"monitor" jsonschema_description:"HTTP: health and metrics, and nothing else, for those who may not see more: probes of Kubernetes, Prometheus."`
	Tracing     Tracing `json:"tracing" jsonschema_description:"Traces of acquisitions and cycles (OpenTelemetry)."`
	Log         Log     `json:"log" jsonschema_description:"Logging of the process to standard error."`
}

// Kafka says how to reach the brokers.
type Kafka struct {
	Brokers []string `json:"brokers" jsonschema:"minItems=1" jsonschema_description:"Seed brokers, host:port."`
	TLS     TLS      `json:"tls" jsonschema_description:"Transport security."`
	SASL    SASL     `json:"sasl" jsonschema_description:"Who we are."`
}

// TLS is transport security; files are PEM.
type TLS struct {
	Enabled    bool   `json:"enabled" jsonschema_description:"Speak TLS to the brokers."`
	CAFile     string `json:"ca_file" jsonschema_description:"Certificate authorities to trust, read at each connection. Empty: the system's."`
	CertFile   string `json:"cert_file" jsonschema_description:"Own certificate, for mutual TLS, read at each connection."`
	KeyFile    string `json:"key_file" jsonschema_description:"Key of the own certificate."`
	ServerName string `json:"server_name" jsonschema_description:"Name expected in the broker's certificate. Empty: the host dialled."`
}

// SASL is how the process proves who it is.
type SASL struct {
	Mechanism    string `json:"mechanism" jsonschema:"enum=none,enum=PLAIN,enum=SCRAM-SHA-256,enum=SCRAM-SHA-512,enum=OAUTHBEARER" jsonschema_description:"none, PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER."`
	Username     string `json:"username" jsonschema_description:"User name, unless the mechanism is OAUTHBEARER."`
	Password     Secret `json:"password" jsonschema_description:"Password; write ${NAME} to take it from the environment."`
	PasswordFile string `json:"password_file" jsonschema_description:"File that holds the password instead, read at each login."`
	TokenFile    string `json:"token_file" jsonschema_description:"OAUTHBEARER: file that holds the token, read at each login."`
}

// Inputs are the topics that are read.
type Inputs struct {
	Purchases    string `json:"purchases" jsonschema:"minLength=1" jsonschema_description:"Topic of orders and refunds, keyed by customer id."`
	Interactions string `json:"interactions" jsonschema_description:"Topic of everything else, keyed by customer id. Empty: there is none."`
	Partitioner  string `json:"partitioner" jsonschema:"enum=murmur2,enum=crc32,enum=fnv1a" jsonschema_description:"How producers place keys: murmur2 (Java, franz-go), crc32 (librdkafka's default), fnv1a (sarama's default)."`
	Lost         string `json:"lost" jsonschema:"enum=stop,enum=skip" jsonschema_description:"Records that were deleted before they were read (retention, a topic made again): stop the shard and say so, or go on with what is there and write a dead letter for the gap."`
	Misrouted    string `json:"misrouted" jsonschema:"enum=dead_letter,enum=fail" jsonschema_description:"A record whose key does not belong on its partition: to dead letters, or stop the shard."`
}

// Time says whose clock counts.
type Time struct {
	EventTime        string   `json:"event_time" jsonschema:"enum=record,enum=payload" jsonschema_description:"The instant of a record: its Kafka timestamp, or the latest time it carries."`
	Clock            string   `json:"clock" jsonschema:"enum=broker,enum=wall,enum=manual" jsonschema_description:"What now is: the brokers' time, the machine's, or given by a driver (simulate, demo)."`
	Zone             string   `json:"zone" jsonschema:"minLength=1" jsonschema_description:"Zone of calendar days (IANA name)."`
	LiveFrom         Instant  `json:"live_from" jsonschema_description:"Changes effective before this instant are backfill. Empty: a new application announces nothing until it has read all history; with clock manual everything is live."`
	Backfill         string   `json:"backfill" jsonschema:"enum=silent,enum=emit" jsonschema_description:"Changes of backfill: not announced, or announced with mode backfill."`
	MaxFuture        Duration `json:"max_future" jsonschema_description:"A record stamped later than now plus this is a dead letter."`
	Grace            Duration `json:"grace" jsonschema_description:"How long after an instant its silence is settled."`
	AnnounceLateOver Duration `json:"announce_late_over" jsonschema_description:"Silence found this much too late is not announced any more."`
}

// Rules are the segment rules.
type Rules struct {
	Name        string    `json:"name" jsonschema:"enum=rfm11,enum=rfm125,enum=rf10,enum=klaviyo6,enum=own" jsonschema_description:"The rule set: one of the presets, or own for the segments below. The rules here are those of a new application; a running one goes by the published rules (asiduo rules)."`
	Segments    []Segment `json:"segments" jsonschema_description:"Segments of an own rule set, which must give every r, f and m from 1 to 5 to exactly one of them."`
	RecencyDays [4]int    `json:"recency_days" jsonschema_description:"Days since the last order after which R falls to 4, 3, 2, 1."`
	Frequency   [4]int    `json:"frequency" jsonschema_description:"Orders in the window from which F is 2, 3, 4, 5."`
	Money       Money     `json:"money" jsonschema_description:"Net revenue in the window from which M is 2, 3, 4, 5."`
	WindowDays  int       `json:"window_days" jsonschema:"minimum=2,maximum=36500" jsonschema_description:"Length of the window of F and M; also how late an order may be."`
}

// Segment is one segment of an own rule set.
type Segment struct {
	Name string `json:"name" jsonschema:"required,pattern=^[a-z][a-z0-9_]*$" jsonschema_description:"Name, as events carry it."`
	Rank int    `json:"rank" jsonschema:"required" jsonschema_description:"Greater is better; silence must never lead to a greater one."`
	When []Cell `json:"when" jsonschema_description:"Boxes of scores that belong to the segment; none for prospect."`
}

// Cell is a box of scores; what is left out is any.
type Cell struct {
	R Scores `json:"r" jsonschema_description:"R: 3, 4-5 or any."`
	F Scores `json:"f" jsonschema_description:"F: 3, 4-5 or any."`
	M Scores `json:"m" jsonschema_description:"M: 3, 4-5 or any."`
}

// Money is how M is cut.
type Money struct {
	Mode        string     `json:"mode" jsonschema:"enum=fixed,enum=quintiles" jsonschema_description:"fixed: the cuts below. quintiles: cuts from what the customers spend, published when they have moved, at most weekly."`
	Cuts        [4]Decimal `json:"cuts" jsonschema_description:"fixed: ascending amounts in the pipeline's currency."`
	InitialCuts []Decimal  `json:"initial_cuts" jsonschema_description:"quintiles: four ascending amounts to go by while the customers are too few. Empty: M is 3 meanwhile."`
}

// Churn is the model of the next order. That in the file is the model of a new application; a running one goes by the
// published model (asiduo model).
type Churn struct {
	Method      string      `json:"method" jsonschema:"enum=mbg_nbd,enum=heuristic,enum=none" jsonschema_description:"mbg_nbd, heuristic (shrunk rhythm, for as long as no model was fitted to the shop) or none."`
	Params      ChurnParams `json:"params" jsonschema_description:"Parameters of the method, times in days. Those of mbg_nbd are by default the ones published for the CDNOW music shop (r 0.525, alpha 6.183 weeks, a 0.891, b 1.614): replace them by your own."`
	HorizonDays int         `json:"horizon_days" jsonschema:"minimum=1,maximum=3650" jsonschema_description:"The probability is that of no order in this many days."`
	Bands       [2]Decimal  `json:"bands" jsonschema_description:"Probability from which risk is medium, and high."`
	Hysteresis  Decimal     `json:"hysteresis" jsonschema_description:"A band is left only this far below its boundary."`
	Jump        Decimal     `json:"jump" jsonschema_description:"A difference to the last announced probability that is an event by itself."`
}

// ChurnParams are the parameters of every method; a method looks at its own.
type ChurnParams struct {
	R           float64 `json:"r" jsonschema_description:"mbg_nbd: shape of the purchase rate."`
	Alpha       float64 `json:"alpha" jsonschema_description:"mbg_nbd: scale of the purchase rate, days."`
	A           float64 `json:"a" jsonschema_description:"mbg_nbd: first parameter of the dropout chance."`
	B           float64 `json:"b" jsonschema_description:"mbg_nbd: second parameter of the dropout chance."`
	ShopGapDays float64 `json:"shop_gap_days" jsonschema_description:"heuristic: the typical number of days between two orders in this shop."`
}

// Value is how what a customer will bring in is counted.
type Value struct {
	HorizonDays int     `json:"horizon_days" jsonschema:"minimum=1,maximum=36500" jsonschema_description:"Looked at so far ahead."`
	AnnualRate  Decimal `json:"annual_rate" jsonschema_description:"Discount in a year: 0.1 is 10 %."`
	Margin      Decimal `json:"margin" jsonschema_description:"Of revenue, what remains: 0.3 is 30 %."`
}

// Limits are what a record or a customer may be at most.
type Limits struct {
	MaxRecordBytes     int `json:"max_record_bytes" jsonschema:"minimum=1,maximum=104857600" jsonschema_description:"Longest value of an input record."`
	FutureHours        int `json:"future_hours" jsonschema:"minimum=0,maximum=8760" jsonschema_description:"A time later than the record's own timestamp plus this is a dead letter."`
	OrdersPerCustomer  int `json:"orders_per_customer" jsonschema:"minimum=1,maximum=10000" jsonschema_description:"Orders of one customer inside the window."`
	RefundsPerCustomer int `json:"refunds_per_customer" jsonschema:"minimum=0,maximum=10000" jsonschema_description:"Refund records of one customer inside the window."`
	ConsentPurposes    int `json:"consent_purposes" jsonschema:"minimum=0,maximum=200" jsonschema_description:"Consent purposes kept for one customer."`
}

// Cycle bounds one transaction of one shard.
type Cycle struct {
	Records            int      `json:"records" jsonschema:"minimum=1" jsonschema_description:"Most records in a cycle."`
	Bytes              Size     `json:"bytes" jsonschema_description:"Most bytes of records in a cycle."`
	Timers             int      `json:"timers" jsonschema:"minimum=1" jsonschema_description:"Most customers looked at in a cycle because of silence."`
	Sweep              int      `json:"sweep" jsonschema:"minimum=1" jsonschema_description:"Most customers moved to new parameters in a cycle."`
	Min                Duration `json:"min" jsonschema_description:"Shortest time between the starts of two cycles of a shard."`
	Deadline           Duration `json:"deadline" jsonschema_description:"A commit that takes longer closes the shard, which is then acquired again."`
	TransactionTimeout Duration `json:"transaction_timeout" jsonschema_description:"After this the broker gives up a transaction of a process that died."`
	FetchBuffer        Size     `json:"fetch_buffer" jsonschema_description:"Most bytes fetched ahead per shard."`
}

// Group is the membership of the consumer group.
type Group struct {
	SessionTimeout Duration `json:"session_timeout" jsonschema_description:"After this silence of a process its shards go to others."`
	Heartbeat      Duration `json:"heartbeat" jsonschema_description:"How often a process says that it is there."`
}

// State is where customers are kept.
type State struct {
	Dir        string   `json:"dir" jsonschema:"minLength=1" jsonschema_description:"Data directory, not shared with other processes: one database per shard and the identity of this process."`
	BlockCache Size     `json:"block_cache" jsonschema_description:"Cache of database blocks, shared by the shards of the process."`
	HotCache   Size     `json:"hot_cache" jsonschema_description:"Cache of recently used customers, for the whole process."`
	Memtable   Size     `json:"memtable" jsonschema_description:"Write buffer of a shard's database."`
	FlushEvery Duration `json:"flush_every" jsonschema_description:"How often write buffers go to disk; a crash reads back what was not flushed."`
	MinFree    Size     `json:"min_free" jsonschema_description:"Intake stops when the disk has less room than this, and goes on with a tenth more."`
}

// Outputs is what is written besides events, and how its topics are made.
type Outputs struct {
	Profiles          bool  `json:"profiles" jsonschema_description:"Keep the topic of current standings."`
	ReplicationFactor int16 `json:"replication_factor" jsonschema:"minimum=-1" jsonschema_description:"Copies of each topic that init creates; run takes none that has fewer, and from 3 on none with min.insync.replicas below 2. One broker: 1. -1: as the brokers are set, however few."`
}

// Archive is the Parquet snapshots.
type Archive struct {
	Dir   string   `json:"dir" jsonschema_description:"Directory of snapshots. Empty: none are written."`
	Every Duration `json:"every" jsonschema_description:"A snapshot is due at each multiple of this after midnight of the zone. 0: only by command."`
}

// API is the listener for questions about customers.
type API struct {
	Listen    string `json:"listen" jsonschema_description:"host:port. Empty: none."`
	Advertise string `json:"advertise" jsonschema_description:"URL under which others reach this listener, as https://asiduo-0.example:8443: where other instances send those who ask for a customer of this one. Empty: api.listen."`
	Access    Access `json:"access" jsonschema_description:"Who may ask. Anywhere but on loopback, tokens or client certificates are needed."`
}

// Admin is the private listener.
type Admin struct {
	Listen string `json:"listen" jsonschema_description:"host:port of metrics, profiles and commands. Empty: none."`
	Access Access `json:"access" jsonschema_description:"Who may ask. Anywhere but on loopback, tokens or client certificates are needed."`
}

// Access is who may ask a listener. Every demand that is made must be met.
type Access struct {
	Tokens       []Secret `json:"tokens" jsonschema_description:"Bearer tokens; a request must have one of them. Write \"${NAME}\" to take one from the environment."`
	TokensFile   string   `json:"tokens_file" jsonschema_description:"File of bearer tokens, one a line; read anew when it changes, so that a new token can be there before the old one goes."`
	CertFile     string   `json:"cert_file" jsonschema_description:"Own certificate: the listener speaks TLS. Files are PEM and read anew when they change."`
	KeyFile      string   `json:"key_file" jsonschema_description:"Key of the own certificate."`
	ClientCAFile string   `json:"client_ca_file" jsonschema_description:"Certificate authorities of clients: who has no certificate of theirs is refused (mutual TLS)."`
	Insecure     bool     `json:"insecure" jsonschema_description:"Let everybody ask who reaches the listener, though it is not on loopback."`
	Rate         int      `json:"rate" jsonschema:"minimum=0" jsonschema_description:"Requests in a second from one address, and as many at once; more are answered with 429, and an address has 128 connections. 0: any number of both."`
}

// Monitor is the listener that may be public: no answer of it is about a customer.
type Monitor struct {
	Listen string `json:"listen" jsonschema_description:"host:port, on any address. Empty: none."`
}

// Tracing is where spans go. The rest of the way there (headers, certificates, time limits) is said in the environment, as for
// other programs: OTEL_EXPORTER_OTLP_*.
type Tracing struct {
	Endpoint string  `json:"endpoint" jsonschema_description:"Base URL of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; spans go to /v1/traces below it. Headers, certificates and time limits are set in the environment (OTEL_EXPORTER_OTLP_HEADERS and others). Empty: no traces."`
	Sample   float64 `json:"sample" jsonschema:"minimum=0,maximum=1" jsonschema_description:"Share of the cycles that are traced; acquisitions of shards all are."`
}

// Log is what the process says about itself.
type Log struct {
	Level  string `json:"level" jsonschema:"enum=debug,enum=info,enum=warn,enum=error" jsonschema_description:"debug, info, warn or error."`
	Format string `json:"format" jsonschema:"enum=text,enum=json" jsonschema_description:"text or json."`
}
