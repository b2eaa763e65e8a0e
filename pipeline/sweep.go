package pipeline

// load is the entry of a customer, and the customer in the cycle's scratch as all customers of the shard are.
func (s *shard) load(id string) (*entry, error) {
	e, err := s.overlay.customer(id, &s.cycle.customer)
	if err != nil || !s.moved() {
		return e, err
	}
	return e, s.keep(e)
}

// moved brings the customer of the scratch to where all customers are since the adoption, and to where silence has
// been played for all of them since; false if he was there already. Whatever touches a customer comes through here, so
// neither the order of the sweep nor who was first can be seen. Of somebody who was moved before, silence is played
// after the records of the cycle, as without a sweep.
func (s *shard) moved() (changed bool) {
	c, a := &s.cycle, s.adopted.move
	if a == nil || c.customer.Versions == a.Is.Versions {
		return false
	}
	c.changes, changed = c.customer.Adopt(a, c.say, c.changes[:0])
	if c.customer.Evaluated && c.customer.Due <= s.silence.played {
		c.changes, changed = c.customer.Advance(a.Is, s.silence.played, c.say, c.changes), true
	}
	return changed
}

// sweepOn moves the next customers in the order of their keys to the adopted parameters, at most cycle.sweep of them
// and only while the cycle has room. Only what changed is written.
func (s *shard) sweepOn() error {
	a := &s.adopted
	if a.move == nil || s.overlay.bytes >= s.roomy() {
		return nil
	}
	seen := int64(0)
	next, err := s.store.Customers(a.sweep.Cursor, s.p.cfg.Cycle.Sweep, func(id string, b []byte) error {
		seen++
		return s.sweep(id, b)
	})
	if err != nil {
		return err
	}
	s.cycle.who = ""
	a.sweep.Cursor, a.sweep.Done, a.news = next, a.sweep.Done+seen, true
	s.p.metrics.swept.WithLabelValues(label(s.id)).Add(float64(seen))
	if next == nil {
		s.p.log.Info("all customers stand under the new parameters", "shard", s.id, "versions", a.is.Versions, "customers", a.sweep.Done)
		a.move = nil
		a.extract, err = a.set.Extract(s.versions()...)
	}
	return err
}

// sweep moves one customer of the store.
func (s *shard) sweep(id string, b []byte) error {
	c := &s.cycle
	if s.overlay.has(id) { // touched in this cycle, and moved then
		return nil
	}
	c.who = id
	if err := c.customer.Decode(b); err != nil {
		return err
	}
	if !s.moved() {
		return nil
	}
	e, err := s.overlay.met(id, b, &c.before)
	if err != nil {
		return err
	}
	return s.keep(e)
}
