// Package events is what leaves the process as records: changes, profiles and dead letters as CloudEvents 1.0 in the
// binary mode of their Kafka binding. It is pure encoding and knows neither Kafka clients nor stores.
package events

import (
	"strconv"

	"github.com/asiduo/asiduo/state"
)

// Topic names, after the application's name and a dot.
const (
	SegmentChanges = "segment-changes"
	ChurnRisk      = "churn-risk"
	Profiles       = "profiles"
	DeadLetters    = "dead-letters"
)

// Types of the events, as in the header ce_type. A change that breaks readers gets a new version, and a schema of its
// own.
const (
	SegmentChangeType = "io.asiduo.segment-change.v1"
	ChurnRiskType     = "io.asiduo.churn-risk.v1"
	ProfileType       = "io.asiduo.profile.v1"
	DeadLetterType    = "io.asiduo.dead-letter.v1"
)

// Header is a header of a Kafka record.
type Header struct {
	Key   string
	Value []byte
}

// Record is a Kafka record to be produced: the topic with the application's name in front, the customer's id as key,
// JSON as value (of a dead letter: whatever came in). Its bytes are shared and must not be modified.
type Record struct {
	Topic   string
	Key     []byte
	Value   []byte
	Headers []Header
}

// Encoder makes records. What it writes depends on its arguments alone: never on a clock, never on what it wrote
// before. It is safe for concurrent use.
type Encoder struct {
	p        *state.Parameters
	digits   int
	idPrefix string // "app:epoch:"
	source   []byte

	segmentTopic, riskTopic, profileTopic, deadTopic string

	// Parts of the values that are the same in all of them.
	segments    [state.MaxSegments]string // quoted names, by code
	none        string                    // quoted name of the segment of those who are in none
	currency    string                    // quoted
	windowTail  string
	horizonTail string
	valueTail   string // empty if no value is told
}

// New makes an encoder of the application app in the given epoch. The parameters are those that evaluated what is
// encoded: its rules name the segments, its window and churn settings are told with the figures. Amounts are written
// in currency with the given number of digits after the point.
func New(app string, epoch int, p *state.Parameters, currency string, digits int) *Encoder {
	e := &Encoder{
		p: p, digits: digits,
		idPrefix:     app + ":" + strconv.Itoa(epoch) + ":",
		source:       []byte("/asiduo/" + app),
		segmentTopic: app + "." + SegmentChanges,
		riskTopic:    app + "." + ChurnRisk,
		profileTopic: app + "." + Profiles,
		deadTopic:    app + "." + DeadLetters,
		currency:     quoted(currency),
		windowTail:   `,"window_days":` + strconv.FormatInt(int64(p.Window/state.Day), 10) + `}`,
		horizonTail: `,"horizon_days":` + strconv.Itoa(p.Churn.Horizon) +
			`,"method":` + quoted(p.Churn.Method.String()) + confidence(p.Churn.Confidence) + `}`,
	}
	if v := p.Churn.Value; v != nil {
		e.valueTail = `,"currency":` + e.currency + `,"horizon_days":` + strconv.FormatInt(int64(v.Horizon), 10) + `}`
	}
	for g := range state.Segment(state.MaxSegments) {
		e.segments[g] = quoted(p.Rules.SegmentName(g))
	}
	e.none = e.segments[state.Prospect]
	return e
}

// confidence is the member of that name; without a model there is none.
func confidence(word string) string {
	if word == "" {
		return ""
	}
	return `,"confidence":` + quoted(word)
}

func quoted(s string) string { return string(AppendString(nil, s)) }

// Values of headers that are the same in all records.
var (
	specVersion = []byte("1.0")
	jsonContent = []byte("application/json")
	anyContent  = []byte("application/octet-stream")

	segmentType = []byte(SegmentChangeType)
	riskType    = []byte(ChurnRiskType)
	profileType = []byte(ProfileType)
	deadType    = []byte(DeadLetterType)
)

// envelope is a record under construction: one buffer that holds value, key, id and time one after another, so that a
// record costs two allocations.
type envelope struct {
	b                  []byte
	value, key, id, at int // where each ends in b
}

// room is what key, id and time of a customer's record take.
func (e *Encoder) room(customer string) int { return 2*len(customer) + len(e.idPrefix) + 24 + 24 }

func (v *envelope) record(e *Encoder, topic string, kind []byte) Record {
	b := v.b
	key := b[v.value:v.key:v.key]
	return Record{
		Topic: topic, Key: key, Value: b[:v.value:v.value],
		Headers: []Header{
			{"ce_specversion", specVersion},
			{"ce_type", kind},
			{"ce_source", e.source},
			{"ce_id", b[v.key:v.id:v.id]},
			{"ce_time", b[v.id:v.at:v.at]},
			{"ce_subject", key},
			{"content-type", jsonContent},
		},
	}
}

// appendSegment appends the quoted name of a segment. Who is in none is a prospect.
func (e *Encoder) appendSegment(b []byte, g state.Segment) []byte {
	if g == state.NoSegment {
		return append(b, e.none...)
	}
	return append(b, e.segments[g]...)
}

func appendTimeOrNull(b []byte, t state.Instant, known bool) []byte {
	if !known {
		return append(b, "null"...)
	}
	b = AppendTime(append(b, '"'), t)
	return append(b, '"')
}

func appendBand(b []byte, band state.Band) []byte {
	if band == state.NoBand {
		return append(b, "null"...)
	}
	return appendWord(b, band.String())
}

// appendWord appends a word that needs no escaping.
func appendWord(b []byte, s string) []byte {
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func (e *Encoder) appendMoney(b []byte, m state.Money) []byte {
	b = AppendMoney(append(b, '"'), m, e.digits)
	return append(b, '"')
}

// appendScores appends the members r, f and m.
func appendScores(b []byte, s *state.Standing) []byte {
	b = append(b, `,"r":`...)
	b = append(b, digit(uint64(s.R)))
	b = append(b, `,"f":`...)
	b = append(b, digit(uint64(s.F)))
	b = append(b, `,"m":`...)
	return append(b, digit(uint64(s.M)))
}

// appendTransition appends where silence leads.
func (e *Encoder) appendTransition(b []byte, t state.Transition) []byte {
	b = append(b, `,"next_transition":`...)
	if t.At == state.Never {
		return append(b, "null"...)
	}
	b = append(b, `{"segment":`...)
	b = e.appendSegment(b, t.Segment)
	b = append(b, `,"at":`...)
	b = appendTimeOrNull(b, t.At, true)
	return append(b, '}')
}

// appendThreshold appends when silence moves the band.
func appendThreshold(b []byte, band state.Band, at state.Instant) []byte {
	b = append(b, `,"next_threshold":`...)
	if at == state.Never {
		return append(b, "null"...)
	}
	b = append(b, `{"band":`...)
	b = appendBand(b, band)
	b = append(b, `,"at":`...)
	b = appendTimeOrNull(b, at, true)
	return append(b, '}')
}

// appendContext appends what the interactions say about whether and how the customer may be addressed.
func appendContext(b []byte, n *state.Interactions) []byte {
	b = append(b, `,"complaint_open":`...)
	b = strconv.AppendBool(b, n != nil && n.Complaining)
	b = append(b, `,"consent":{`...)
	if n != nil {
		for i := range n.Consents {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendString(b, n.Consents[i].Purpose)
			b = append(b, ':')
			b = appendWord(b, n.Consents[i].Status.String())
		}
	}
	return append(b, '}')
}

func appendVersions(b []byte, v state.Versions) []byte {
	b = append(b, `,"versions":{"rules":`...)
	b = strconv.AppendUint(b, uint64(v.Rules), 10)
	b = append(b, `,"cuts":`...)
	b = strconv.AppendUint(b, uint64(v.Cuts), 10)
	b = append(b, `,"model":`...)
	b = strconv.AppendUint(b, uint64(v.Model), 10)
	return append(b, '}')
}

// consentRoom is what the consents take in a value, unless their purposes need much escaping.
func consentRoom(n *state.Interactions) (room int) {
	if n != nil {
		for i := range n.Consents {
			room += len(n.Consents[i].Purpose) + len(`"":"granted",`)
		}
	}
	return room
}
