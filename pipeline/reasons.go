package pipeline

import (
	"iter"

	"github.com/asiduo/asiduo/state"
)

// reason says why a record cannot be used (semantics 3.4). Limits of the domain are reasons too.
type reason string

const (
	tooLarge        reason = "too_large"
	batchTooLarge   reason = "batch_too_large"
	undecodable     reason = "undecodable"
	missingField    reason = "missing_field"
	emptyOrderID    reason = "empty_order_id"
	badField        reason = "bad_field"
	keyMismatch     reason = "key_mismatch"
	badTime         reason = "bad_time"
	futureTime      reason = "future_time"
	unknownCurrency reason = "unknown_currency"
	badAmount       reason = "bad_amount"
	negativeTotal   reason = "negative_total"
	misrouted       reason = "misrouted"
	purposeTooLong  reason = "consent_purpose_bytes"
	unprocessable   reason = "unprocessable"
	inputLost       reason = "input_lost"
)

// reasons are all of them, in the order in which a record is checked, and when each is given.
var reasons = []struct {
	reason
	when string
}{
	{tooLarge, "the value is longer than `limits.max_record_bytes`"},
	{batchTooLarge, "a packed batch unpacks to more than `cycle.fetch_buffer` and twice `limits.max_record_bytes`, or to hundreds of thousands of records or headers: one letter for all its records, without key and value; `asiduo-last-offset` says where it ends"},
	{undecodable, "no value, or not one JSON object"},
	{missingField, "a required field is absent or null"},
	{emptyOrderID, "`order_id` is empty"},
	{badField, "a field of the wrong type or outside its domain"},
	{keyMismatch, "the key is not the bytes of `customer_id`"},
	{badTime, "not a time, or a record without a timestamp"},
	{futureTime, "later than the record's timestamp plus `limits.future_hours`, or a timestamp later than now plus `time.max_future`"},
	{unknownCurrency, "no rate for the currency"},
	{badAmount, "not a decimal, or too big"},
	{negativeTotal, "an order below zero"},
	{reason(state.TooLate), "an order or refund older than the window"},
	{misrouted, "the key does not belong on its partition by `inputs.partitioner`, and `inputs.misrouted` is dead_letter"},
	{reason(state.TooManyOrders), "the customer has as many orders in the window as `limits.orders_per_customer` allows; the profile says `truncated`"},
	{reason(state.TooManyRefund), "the customer has as many refunds as `limits.refunds_per_customer` allows; the profile says `truncated`"},
	{reason(state.TooManyTopics), "the customer has consents for as many purposes as `limits.consent_purposes` allows; the profile says `truncated`"},
	{purposeTooLong, "the name of a purpose has more than 256 bytes"},
	{unprocessable, "our own code failed at it three times: please report it"},
	{inputLost, "no record: the place from which records were lost before they were read, and how far (`inputs.lost: skip`)"},
}

// Reasons are the reasons of dead letters, in the order in which a record is checked, and when each is given.
func Reasons() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, r := range reasons {
			if !yield(string(r.reason), r.when) {
				return
			}
		}
	}
}
