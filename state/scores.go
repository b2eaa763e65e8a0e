package state

// Scores are what rules say about a customer at an instant.
type Scores struct {
	R, F, M   uint8
	Segment   Segment
	Lifecycle Lifecycle
}

// silence walks through the future of a customer for whom nothing comes: a pure function of the tally and the instant.
type silence struct {
	p       *Parameters
	tally   *tally
	now     Instant
	left    int   // orders that have left the window
	revenue Money // in the window
}

func (t *tally) silence(p *Parameters, now Instant) silence {
	return silence{p: p, tally: t, now: now, revenue: t.revenue}
}

// step goes to the next instant at which an elapsed time or the window could change a score; false if there is none.
func (s *silence) step() bool {
	t, next := s.tally, Never
	if t.orders == 0 {
		return false
	}
	for _, c := range s.p.Recency {
		if at := t.last + c + 1; at > s.now {
			next = min(next, at)
			break // they ascend
		}
	}
	if s.left < len(t.window) {
		next = min(next, t.window[s.left].at+s.p.Window+1)
	}
	if t.comeback > 0 {
		if at := t.comeback + s.p.Recency[1] + 1; at > s.now {
			next = min(next, at)
		}
	}
	if next == Never {
		return false
	}
	s.now = next
	for s.left < len(t.window) && t.window[s.left].at+s.p.Window < next {
		s.revenue -= t.window[s.left].net
		s.left++
	}
	return true
}

// scores are those at the walker's instant (semantics 5.1 to 5.5).
func (s *silence) scores() (sc Scores) {
	t := s.tally
	if t.orders == 0 {
		return Scores{Segment: Prospect, Lifecycle: ProspectStage}
	}
	idle := s.now - t.last
	sc.R = 5
	for _, c := range s.p.Recency {
		if idle > c {
			sc.R--
		}
	}
	if n := len(t.window) - s.left; n > 0 {
		sc.F, sc.M = 1, 1
		for i := range 4 {
			if s.p.Frequency[i] <= n {
				sc.F++
			}
			if s.p.Money[i] <= s.revenue {
				sc.M++
			}
		}
	}
	sc.Segment = s.p.Rules.Of(sc.R, sc.F, sc.M)
	sc.Lifecycle = s.lifecycle(sc.F)
	return sc
}

// Transition is where silence leads.
type Transition struct {
	Segment Segment
	At      Instant // Never: nowhere
}

// transition is the first change of segment after the walker's instant if nothing comes.
func (s silence) transition() Transition {
	for here := s.scores().Segment; s.step(); {
		if g := s.scores().Segment; g != here {
			return Transition{g, s.now}
		}
	}
	return Transition{At: Never}
}

// Figures are the numbers behind a standing.
type Figures struct {
	First, Last Instant // 0 if Lifetime is 0
	Idle        Instant // since the last order
	Orders      int     // in the window
	Net         Money   // in the window
	Lifetime    int64   // orders ever
	LifetimeNet Money
}

func (s *silence) figures() Figures {
	t := s.tally
	f := Figures{Lifetime: t.orders, LifetimeNet: t.lifetime}
	if t.orders > 0 {
		f.First, f.Last, f.Idle = t.first, t.last, s.now-t.last
		f.Orders, f.Net = len(t.window)-s.left, s.revenue
	}
	return f
}
