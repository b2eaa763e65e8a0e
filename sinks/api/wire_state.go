package api

// What is stored about a customer, unjudged: everything that a store holds, so that two states are equal if these are.

type wireState struct {
	CustomerID   string           `json:"customer_id"`
	Customer     *wireRecord      `json:"customer"`
	Interactions *wireStoredTouch `json:"interactions"`
}

type wireRecord struct {
	EvaluatedAt *string              `json:"evaluated_at"`
	DueAt       *string              `json:"due_at"`
	Segment     *string              `json:"segment"`
	Since       *string              `json:"since"`
	Seen        []string             `json:"seen"` // segments ever published, in the order of the rule set
	R           uint8                `json:"r"`
	F           uint8                `json:"f"`
	M           uint8                `json:"m"`
	Lifecycle   string               `json:"lifecycle"`
	Band        *string              `json:"churn_band"`
	Reference   *float64             `json:"churn_reference"`
	Threshold   *wireStoredThreshold `json:"next_threshold"`
	Sequences   wireSequences        `json:"sequences"`
	Versions    *wireVersions        `json:"versions"`
	Orders      []wireStoredOrder    `json:"orders"` // oldest first
	Refunds     []wireRefund         `json:"refunds"`
	Settled     *wireSettled         `json:"settled"`
	Truncated   bool                 `json:"truncated"`
}

type wireStoredThreshold struct {
	Days int    `json:"days_after_last_order"`
	Band string `json:"band"`
}

type wireStoredOrder struct {
	Order     string  `json:"order"`
	OrderedAt *string `json:"ordered_at"`
	Day       string  `json:"day"` // calendar day of ordered_at in the zone
	Amount    string  `json:"amount"`
	Refunded  string  `json:"refunded"` // as the shop says
	Status    string  `json:"status"`
	Test      bool    `json:"test"`
	Revision  int64   `json:"revision"`
	UpdatedAt *string `json:"updated_at"`
}

// wireSettled is the total of the orders that have left the window.
type wireSettled struct {
	Orders       int64   `json:"orders"`
	Net          string  `json:"net_revenue"`
	FirstOrderAt *string `json:"first_order_at"`
	LastOrderAt  *string `json:"last_order_at"`
	Days         int64   `json:"days"` // with an order
	FirstDay     string  `json:"first_day"`
	LastDay      string  `json:"last_day"`
	Eve          bool    `json:"eve"` // the day before last_day is one of them
}

type wireStoredTouch struct {
	LastAt      *string       `json:"last_at"`
	ComplaintAt *string       `json:"complaint_at"`
	Complaint   bool          `json:"complaint_open"`
	Consents    []wireConsent `json:"consents"` // by purpose
	Truncated   bool          `json:"truncated"`
}

type wireConsent struct {
	Purpose string  `json:"purpose"`
	Status  string  `json:"status"`
	At      *string `json:"at"`
}
