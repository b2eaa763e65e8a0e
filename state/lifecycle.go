package state

// Lifecycle is a customer's stage in the retention funnel: how deep the relation is, and whether it is breaking.
type Lifecycle uint8

// The stages.
const (
	ProspectStage Lifecycle = iota
	Trier
	Recent
	Regular
	Loyal
	WonBack
	AtRisk
	Dormant
	LostStage
)

var lifecycleNames = [...]string{"prospect", "trier", "recent", "regular", "loyal", "won_back", "at_risk", "dormant", "lost"}

func (l Lifecycle) String() string { return lifecycleNames[l] }

// Lifecycles are all stages in the order of the funnel.
func Lifecycles() []string { return lifecycleNames[:] }

// lifecycle is the first stage whose predicate holds (semantics 5.5).
func (s *silence) lifecycle(f uint8) Lifecycle {
	t, c := s.tally, &s.p.Recency
	idle := s.now - t.last
	switch {
	case t.orders == 0:
		return ProspectStage
	case idle > c[3]:
		return LostStage
	case idle > c[2]:
		return Dormant
	case idle > c[1]:
		return AtRisk
	case t.comeback > 0 && s.now-t.comeback <= c[1]:
		return WonBack
	case t.orders == 1:
		return Trier
	case f <= 2:
		return Recent
	case f == 3:
		return Regular
	}
	return Loyal
}
