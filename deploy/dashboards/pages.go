package main

// smaller are the colours of a figure that should be small.
func smaller(yellow, red float64) []step {
	return []step{{"green", 0}, {"yellow", yellow}, {"red", red}}
}

// greater are those of a figure that should be great.
func greater(yellow, green float64) []step {
	return []step{{"red", 0}, {"yellow", yellow}, {"green", green}}
}

func quantiles(metric, by string) []query {
	of := func(q string) string {
		return "histogram_quantile(" + q + ", sum by (le" + by + ") (rate(" + metric + "_bucket{job=~\"$job\"}[$__rate_interval])))"
	}
	return []query{{of("0.5"), "median"}, {of("0.99"), "99 %"}}
}

var overview = dashboard{
	name: "overview", title: "asiduo: overview", about: "Is it healthy, is it late, what does it say?",
	rows: []row{
		{"Now", 4, []panel{
			{
				kind: "stat", title: "Shards served", unit: "percentunit", steps: greater(0.99, 1),
				about:   "Shards that run, of those that the pipeline has. Below 100 % some customers get no news: see runbook AsiduoShardNotServed.",
				queries: []query{{`sum(asiduo_shard_state{job=~"$job",state="running"}) / max(asiduo_shards{job=~"$job"})`, ""}},
			},
			{
				kind: "stat", title: "Behind", unit: "s", steps: smaller(30, 120),
				about:   "Age of the instant up to which the slowest shard has read the orders and played silence.",
				queries: []query{{`time() - min(asiduo_horizon_timestamp_seconds{job=~"$job"})`, ""}},
			},
			{
				kind: "stat", title: "Records waiting", unit: "short", steps: smaller(10000, 1000000),
				about:   "Records of the inputs that are not yet processed.",
				queries: []query{{`sum(asiduo_lag_records{job=~"$job"})`, ""}},
			},
			{
				kind: "stat", title: "Dead letters, last hour", unit: "percentunit", steps: smaller(0.001, 0.01),
				about:   "Share of the records of the last hour that could not be used.",
				queries: []query{{`sum(increase(asiduo_dead_letters_total{job=~"$job"}[1h])) / sum(increase(asiduo_records_consumed_total{job=~"$job"}[1h]))`, ""}},
			},
			{
				kind: "stat", title: "Snapshot missing for", unit: "s", steps: smaller(3600, 14400),
				about:   "Time for which the snapshot that is due has not been complete; 0: it is there. Nothing: no archive.",
				queries: []query{{`(time() - max(asiduo_snapshot_due_timestamp_seconds{job=~"$job"})) * (max(asiduo_snapshot_due_timestamp_seconds{job=~"$job"}) > bool max(asiduo_snapshot_published_timestamp_seconds{job=~"$job"}))`, ""}},
			},
			{
				kind: "stat", title: "Alerts", unit: "short", steps: smaller(1, 1),
				about:   "Alerts of asiduo that fire.",
				queries: []query{{`count(ALERTS{alertname=~"Asiduo.*",alertstate="firing"}) or vector(0)`, ""}},
			},
			{
				kind: "stat", title: "Instances", unit: "short", steps: greater(1, 2),
				about:   "Processes that answer. With a single one, nobody takes over.",
				queries: []query{{`count(asiduo_build_info{job=~"$job"})`, ""}},
			},
		}},
		{"Is it late?", 7, []panel{
			{
				kind: "timeseries", title: "Behind, by shard", unit: "s",
				about:   "Age of the instant up to which a shard has read the orders and played silence. It stands at a few seconds (time.grace) when all is well, and grows by a second a second when a shard stands still.",
				queries: []query{{`time() - max by (shard) (asiduo_horizon_timestamp_seconds{job=~"$job"})`, "{{shard}}"}},
			},
			{
				kind: "timeseries", title: "Records waiting, by topic", unit: "short", stacked: true,
				about:   "Records of the inputs that are not yet processed.",
				queries: []query{{`sum by (topic) (asiduo_lag_records{job=~"$job"})`, "{{topic}}"}},
			},
			{
				kind: "timeseries", title: "Silence played late", unit: "s",
				about:   "Time from the instant at which a customer's silence mattered to its being played.",
				queries: quantiles("asiduo_timer_lateness_seconds", ""),
			},
			{
				kind: "timeseries", title: "Commit", unit: "s",
				about:   "Time that the brokers take to end a transaction.",
				queries: quantiles("asiduo_commit_duration_seconds", ""),
			},
			{
				kind: "timeseries", title: "Clocks differ by", unit: "s", signed: true,
				about:   "The clock of each machine less the brokers'. See runbook AsiduoClockDifference.",
				queries: []query{{`asiduo_clock_difference_seconds{job=~"$job"}`, "{{instance}}"}},
			},
		}},
		{"Is it healthy?", 7, []panel{
			{
				kind: "timeseries", title: "Shards, by state", unit: "short", stacked: true,
				about:   "Everything but running is a pause for the shard's customers.",
				queries: []query{{`sum by (state) (asiduo_shard_state{job=~"$job"}) > 0`, "{{state}}"}},
			},
			{
				kind: "timeseries", title: "Records read", unit: "cps", stacked: true,
				about:   "Records read per second, by input.",
				queries: []query{{`sum by (topic) (rate(asiduo_records_consumed_total{job=~"$job"}[$__rate_interval]))`, "{{topic}}"}},
			},
			{
				kind: "timeseries", title: "Shards closed and handed over", unit: "short",
				about: "Ends of a shard's life by reason, and times that the group gave shards to processes.",
				queries: []query{
					{`sum by (reason) (increase(asiduo_shard_closed_total{job=~"$job"}[$__rate_interval]))`, "closed: {{reason}}"},
					{`sum(increase(asiduo_assignments_total{job=~"$job"}[$__rate_interval]))`, "assignments"},
				},
			},
			{
				kind: "timeseries", title: "Memory", unit: "bytes",
				about:   "Memory of each process.",
				queries: []query{{`process_resident_memory_bytes{job=~"$job"}`, "{{instance}}"}},
			},
			{
				kind: "timeseries", title: "Room on the disk", unit: "bytes",
				about: "Room on the disk of each data directory, and the mark below which intake stops.",
				queries: []query{
					{`asiduo_disk_free_bytes{job=~"$job"}`, "{{instance}}"},
					{`max(asiduo_disk_min_free_bytes{job=~"$job"})`, "mark"},
				},
			},
		}},
		{"What does it say?", 7, []panel{
			{
				kind: "timeseries", title: "Segment changes, by segment", unit: "cps", stacked: true,
				about:   "Announced changes per second, by the segment that the customer is in now.",
				queries: []query{{`sum by (segment) (rate(asiduo_segment_changes_total{job=~"$job"}[$__rate_interval]))`, "{{segment}}"}},
			},
			{
				kind: "timeseries", title: "Segment changes, by cause", unit: "cps", stacked: true,
				about:   "What made customers move: an order, a correction, or silence.",
				queries: []query{{`sum by (cause) (rate(asiduo_segment_changes_total{job=~"$job"}[$__rate_interval]))`, "{{cause}}"}},
			},
			{
				kind: "timeseries", title: "Churn risk, by band", unit: "cps", stacked: true,
				about:   "Announced changes of churn risk per second, by the band after them.",
				queries: []query{{`sum by (band) (rate(asiduo_churn_risk_changes_total{job=~"$job"}[$__rate_interval]))`, "{{band}}"}},
			},
			{
				kind: "timeseries", title: "Dead letters, by reason", unit: "cps", stacked: true,
				about:   "Records per second that could not be used. docs/reference.md explains the reasons.",
				queries: []query{{`sum by (reason) (rate(asiduo_dead_letters_total{job=~"$job"}[$__rate_interval])) > 0`, "{{reason}}"}},
			},
		}},
	},
}

var shards = dashboard{
	name: "shards", title: "asiduo: shards", about: "Each shard: where it is, what its cycles cost, how its store does.", byShard: true,
	rows: []row{
		{"Where it is", 8, []panel{
			{
				kind: "table", title: "State", unit: "owned by instance",
				about:   "The state of each shard, and the process that has it.",
				queries: []query{{`sum by (shard, state, instance) (asiduo_shard_state{job=~"$job",shard=~"$shard"} == 1)`, ""}},
			},
			{
				kind: "timeseries", title: "Behind", unit: "s", about: "Age of the instant up to which the shard has read the orders and played silence.",
				queries: []query{{`time() - max by (shard) (asiduo_horizon_timestamp_seconds{job=~"$job",shard=~"$shard"})`, "{{shard}}"}},
			},
			{
				kind: "timeseries", title: "Records waiting, by partition", unit: "short", about: "Records of an input partition that are not yet processed.",
				queries: []query{{`max by (topic, partition) (asiduo_lag_records{job=~"$job",shard=~"$shard"})`, "{{topic}}/{{partition}}"}},
			},
			{
				kind: "timeseries", title: "Held back", unit: "short", about: "1: an open transaction of another producer keeps the partition from being read. See runbook AsiduoBehind.",
				queries: []query{{`max by (topic, partition) (asiduo_lso_pinned{job=~"$job",shard=~"$shard"})`, "{{topic}}/{{partition}}"}},
			},
			{
				kind: "timeseries", title: "Age of the last record", unit: "s", about: "Now less the timestamp of the last processed record: great when nobody writes, too.",
				queries: []query{{`time() - max by (shard, topic) (asiduo_last_record_timestamp_seconds{job=~"$job",shard=~"$shard"})`, "{{shard}} {{topic}}"}},
			},
		}},
		{"Its cycles", 8, []panel{
			{
				kind: "timeseries", title: "Records", unit: "cps", about: "Records read per second.",
				queries: []query{{`sum by (shard) (rate(asiduo_records_consumed_total{job=~"$job",shard=~"$shard"}[$__rate_interval]))`, "{{shard}}"}},
			},
			{
				kind: "timeseries", title: "Cycles", unit: "cps", about: "Committed transactions per second.",
				queries: []query{{`sum by (shard) (rate(asiduo_cycles_total{job=~"$job",shard=~"$shard"}[$__rate_interval]))`, "{{shard}}"}},
			},
			{
				kind: "timeseries", title: "Time of a cycle, by phase", unit: "s", about: "Mean time of work, commit (the transaction) and store.",
				queries: []query{{`sum by (phase) (rate(asiduo_cycle_phase_duration_seconds_sum{job=~"$job",shard=~"$shard"}[$__rate_interval])) / sum by (phase) (rate(asiduo_cycle_phase_duration_seconds_count{job=~"$job",shard=~"$shard"}[$__rate_interval]))`, "{{phase}}"}},
			},
			{
				kind: "timeseries", title: "Commit, 99 %", unit: "s", about: "Time that the brokers take to end a transaction.",
				queries: []query{{`histogram_quantile(0.99, sum by (le, shard) (rate(asiduo_commit_duration_seconds_bucket{job=~"$job",shard=~"$shard"}[$__rate_interval])))`, "{{shard}}"}},
			},
		}},
		{"Silence and take-over", 8, []panel{
			{
				kind: "timeseries", title: "Customers moved by silence", unit: "cps", about: "Timers that fired, per second.",
				queries: []query{{`sum by (shard) (rate(asiduo_timers_fired_total{job=~"$job",shard=~"$shard"}[$__rate_interval]))`, "{{shard}}"}},
			},
			{
				kind: "timeseries", title: "Silence played late, 99 %", unit: "s", about: "Time from the instant at which silence mattered to its being played.",
				queries: []query{{`histogram_quantile(0.99, sum by (le, shard) (rate(asiduo_timer_lateness_seconds_bucket{job=~"$job",shard=~"$shard"}[$__rate_interval])))`, "{{shard}}"}},
			},
			{
				kind: "timeseries", title: "Acquiring", unit: "s", about: "Mean time from asking for a shard to serving it.",
				queries: []query{{`sum by (shard) (asiduo_acquire_duration_seconds_sum{job=~"$job",shard=~"$shard"}) / sum by (shard) (asiduo_acquire_duration_seconds_count{job=~"$job",shard=~"$shard"})`, "{{shard}}"}},
			},
			{
				kind: "timeseries", title: "Restored records", unit: "short", about: "Records of the changelog read when acquiring.",
				queries: []query{{`sum by (shard) (increase(asiduo_restored_records_total{job=~"$job",shard=~"$shard"}[$__rate_interval]))`, "{{shard}}"}},
			},
		}},
		{"Its store", 8, []panel{
			{
				kind: "timeseries", title: "On disk", unit: "bytes", stacked: true, about: "Bytes of the database.",
				queries: []query{{`max by (shard) (asiduo_store_disk_bytes{job=~"$job",shard=~"$shard"})`, "{{shard}}"}},
			},
			{
				kind: "timeseries", title: "Write buffers and debt", unit: "bytes", about: "Bytes in memory that are not yet on disk, and bytes on disk that wait to be compacted.",
				queries: []query{
					{`sum(asiduo_store_memtable_bytes{job=~"$job",shard=~"$shard"})`, "write buffers"},
					{`sum(asiduo_store_compaction_debt_bytes{job=~"$job",shard=~"$shard"})`, "compaction debt"},
				},
			},
			{
				kind: "timeseries", title: "Reads", unit: "short", about: "Levels that a read may visit; below ten is good.",
				queries: []query{{`max by (shard) (asiduo_store_read_amplification{job=~"$job",shard=~"$shard"})`, "{{shard}}"}},
			},
			{
				kind: "timeseries", title: "Block cache, hits", unit: "percentunit", about: "Share of block reads that the cache has answered.",
				queries: []query{{`sum by (instance) (asiduo_store_block_cache_hits_total{job=~"$job"}) / (sum by (instance) (asiduo_store_block_cache_hits_total{job=~"$job"}) + sum by (instance) (asiduo_store_block_cache_misses_total{job=~"$job"}))`, "{{instance}}"}},
			},
			{
				kind: "timeseries", title: "Trouble", unit: "short", about: "Seconds that writes had to wait, faults in the background, stores rebuilt.",
				queries: []query{
					{`sum(increase(asiduo_store_stalled_seconds_total{job=~"$job",shard=~"$shard"}[$__rate_interval]))`, "stalled, s"},
					{`sum(increase(asiduo_store_background_errors_total{job=~"$job",shard=~"$shard"}[$__rate_interval]))`, "faults"},
					{`sum by (reason) (increase(asiduo_store_rebuilds_total{job=~"$job"}[$__rate_interval]))`, "rebuilt: {{reason}}"},
				},
			},
		}},
	},
}

var business = dashboard{
	name: "business", title: "asiduo: customers", about: "Where customers are, where they go, and what could not be used. Only announced changes are counted: history that was loaded is not.",
	rows: []row{
		{"Where customers are", 8, []panel{
			{
				kind: "bargauge", title: "Customers by segment", unit: "short", about: "As of the last complete snapshot. Nothing: no archive.",
				queries: []query{{`sort_desc(sum by (segment) (max by (job, segment) (asiduo_snapshot_customers{job=~"$job"} and on (job, instance) (asiduo_snapshot_published_timestamp_seconds == on (job) group_left () max by (job) (asiduo_snapshot_published_timestamp_seconds)))))`, "{{segment}}"}},
			},
			{
				kind: "bargauge", title: "Came into a segment", unit: "short", about: "Announced changes in the time shown, by the segment after them.",
				queries: []query{{`sort_desc(sum by (segment) (increase(asiduo_segment_changes_total{job=~"$job"}[$__range])) > 0)`, "{{segment}}"}},
			},
			{
				kind: "bargauge", title: "Why they moved", unit: "short", about: "Announced changes of segment in the time shown, by cause.",
				queries: []query{{`sort_desc(sum by (cause) (increase(asiduo_segment_changes_total{job=~"$job"}[$__range])) > 0)`, "{{cause}}"}},
			},
		}},
		{"Where they go", 9, []panel{
			{
				kind: "table", title: "Flows between segments", unit: "customers", about: "Announced changes in the time shown, from segment to segment; none: the first.",
				queries: []query{{`sort_desc(sum by (from, to) (increase(asiduo_segment_flows_total{job=~"$job"}[$__range])) > 0)`, ""}},
			},
			{
				kind: "timeseries", title: "Net flow, by segment", unit: "short", signed: true, about: "Customers that came into a segment less those that left it.",
				queries: []query{{`sum by (segment) (label_replace(increase(asiduo_segment_flows_total{job=~"$job"}[$__rate_interval]), "segment", "$1", "to", "(.*)") or label_replace(-increase(asiduo_segment_flows_total{job=~"$job",from!="none"}[$__rate_interval]), "segment", "$1", "from", "(.*)"))`, "{{segment}}"}},
			},
			{
				kind: "timeseries", title: "First orders", unit: "short", about: "Customers that got a segment for the first time.",
				queries: []query{{`sum(increase(asiduo_segment_flows_total{job=~"$job",from="none"}[$__rate_interval]))`, "new customers"}},
			},
		}},
		{"Churn", 8, []panel{
			{
				kind: "timeseries", title: "Changes of churn risk, by band", unit: "short", stacked: true, about: "By the band after the change; none: no longer at risk of anything, as all orders are gone.",
				queries: []query{{`sum by (band) (increase(asiduo_churn_risk_changes_total{job=~"$job"}[$__rate_interval]))`, "{{band}}"}},
			},
			{
				kind: "bargauge", title: "Into a band, by cause", unit: "short", about: "Changes of churn risk in the time shown.",
				queries: []query{{`sort_desc(sum by (band, cause) (increase(asiduo_churn_risk_changes_total{job=~"$job"}[$__range])) > 0)`, "{{band}}: {{cause}}"}},
			},
			{
				kind: "timeseries", title: "Moved by silence", unit: "cps", about: "Customers per second for whom nothing came, and that mattered.",
				queries: []query{{`sum(rate(asiduo_timers_fired_total{job=~"$job"}[$__rate_interval]))`, "customers"}},
			},
		}},
		{"What could not be used", 8, []panel{
			{
				kind: "bargauge", title: "Dead letters, by reason", unit: "short", about: "Records in the time shown. docs/reference.md explains the reasons; <app>.dead-letters has them whole.",
				queries: []query{{`sort_desc(sum by (reason) (increase(asiduo_dead_letters_total{job=~"$job"}[$__range])) > 0)`, "{{reason}}"}},
			},
			{
				kind: "timeseries", title: "Share of records", unit: "percentunit", about: "Dead letters of all records read.",
				queries: []query{{`sum(rate(asiduo_dead_letters_total{job=~"$job"}[$__rate_interval])) / sum(rate(asiduo_records_consumed_total{job=~"$job"}[$__rate_interval]))`, "dead letters"}},
			},
		}},
	},
}
