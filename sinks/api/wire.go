package api

// What goes over the wire. Times are YYYY-MM-DDThh:mm:ss.mmmZ, money is a decimal with all digits of the minor unit,
// probabilities have at most six decimals, hashes are 16 hexadecimal digits. What is not there is null. Members are
// added, never changed.

type wireFault struct {
	Error wireError `json:"error"`
}

type wireError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type wireHealth struct {
	Status  string            `json:"status"` // ok; ready, not_ready
	Reasons []string          `json:"reasons,omitempty"`
	Shards  []wireShardHealth `json:"shards,omitzero"`
}

type wireShardHealth struct {
	Shard  int32  `json:"shard"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

type wireShards struct {
	App     string      `json:"app"`
	Version string      `json:"version"`
	Shards  []wireShard `json:"shards"`
}

type wireShard struct {
	Shard   int32   `json:"shard"`
	State   string  `json:"state"`
	Reason  string  `json:"reason,omitempty"`
	Cycle   uint64  `json:"cycle"`
	Horizon *string `json:"horizon"`

	Versions *wireVersions `json:"versions"`
	Sweep    *wireSweep    `json:"sweep"`
	Building bool          `json:"building"`
	LiveFrom *string       `json:"live_from"`
}

type wireSweep struct {
	Family string   `json:"family"`
	Done   int64    `json:"done"`
	Share  *float64 `json:"share"`
}

type wireSnapshot struct {
	AsOf  *string  `json:"as_of"`
	Paths []string `json:"paths"`
}

// wireCustomer answers for one customer. Everything is as of evaluated_at, but churn.probability and
// metrics.recency_days, which change daily: those are as of as_of.
type wireCustomer struct {
	CustomerID     string           `json:"customer_id"`
	Segment        string           `json:"segment"`
	Since          *string          `json:"since"`
	R              uint8            `json:"r"`
	F              uint8            `json:"f"`
	M              uint8            `json:"m"`
	Lifecycle      string           `json:"lifecycle"`
	Churn          *wireChurn       `json:"churn"`
	NextTransition *wireTransition  `json:"next_transition"`
	Value          *wireValue       `json:"value,omitempty"` // where a model of spending is published
	Metrics        wireMetrics      `json:"metrics"`
	Orders         []wireOrder      `json:"orders"` // in the window, newest first
	Refunds        []wireRefund     `json:"refunds_waiting"`
	Interactions   wireInteractions `json:"interactions"`
	Sequences      wireSequences    `json:"sequences"`
	EvaluatedAt    *string          `json:"evaluated_at"`
	AsOf           *string          `json:"as_of"`
	DueAt          *string          `json:"due_at"` // when silence matters next
	Versions       *wireVersions    `json:"versions"`
	Truncated      bool             `json:"truncated"` // a limit refused something
}

type wireChurn struct {
	Probability   *float64       `json:"probability"`
	Raw           *float64       `json:"raw_probability,omitempty"` // before calibration, where there is a map
	Percentile    *int           `json:"percentile,omitempty"`      // among customers with about as many orders, where there is a table
	Overdue       *float64       `json:"overdue"`
	Drivers       wireDrivers    `json:"drivers"`
	Band          *string        `json:"band"`
	Reference     *float64       `json:"reference"` // the probability last told
	Method        string         `json:"method"`
	Confidence    string         `json:"confidence,omitempty"`
	HorizonDays   int            `json:"horizon_days"`
	NextThreshold *wireThreshold `json:"next_threshold"`
}

// wireDrivers sum to the probability.
type wireDrivers struct {
	Base    float64 `json:"base"`
	Rhythm  float64 `json:"rhythm"`
	Silence float64 `json:"silence"`
}

type wireThreshold struct {
	Band string  `json:"band"`
	At   *string `json:"at"`
}

type wireTransition struct {
	Segment string  `json:"segment"`
	At      *string `json:"at"`
}

type wireValue struct {
	CLV         string `json:"clv"`
	AtRisk      string `json:"at_risk"`
	Earned      string `json:"earned"`
	Currency    string `json:"currency"`
	HorizonDays int    `json:"horizon_days"`
}

type wireMetrics struct {
	FirstOrderAt *string `json:"first_order_at"`
	LastOrderAt  *string `json:"last_order_at"`
	RecencyDays  *int64  `json:"recency_days"`
	Orders       int     `json:"orders"`
	Lifetime     int64   `json:"orders_lifetime"`
	Net          string  `json:"net_revenue"`
	NetLifetime  string  `json:"net_revenue_lifetime"`
	Currency     string  `json:"currency"`
	WindowDays   int64   `json:"window_days"`
}

type wireOrder struct {
	Order     string  `json:"order"` // hash of the order id
	OrderedAt *string `json:"ordered_at"`
	Amount    string  `json:"amount"`
	Net       *string `json:"net"` // null if it does not count
	Status    string  `json:"status"`
	Test      bool    `json:"test"`
	Refunded  string  `json:"refunded"` // as the shop or the refund records say, whichever is more
	Counted   bool    `json:"counted"`
}

type wireRefund struct {
	Order  string  `json:"order"`
	Refund string  `json:"refund"`
	At     *string `json:"at"`
	Amount string  `json:"amount"`
}

type wireInteractions struct {
	LastAt    *string           `json:"last_at"`
	Complaint bool              `json:"complaint_open"`
	Consent   map[string]string `json:"consent"`
}

type wireSequences struct {
	Segment uint64 `json:"segment"`
	Risk    uint64 `json:"risk"`
}

type wireVersions struct {
	Rules uint32 `json:"rules"`
	Cuts  uint32 `json:"cuts"`
	Model uint32 `json:"model"`
}
