package state

// Adoption is the move of customers from one version of the parameters to the next. It is one instant, At, for all
// customers of a shard: whatever looks at a customer first only carries out what was so since then.
type Adoption struct {
	Was, Is  *Parameters
	At       Instant
	Cause    Cause // RulesCause, CutsCause or ModelCause
	Announce bool  // what only the new version changes is news
}

// Adopt moves a customer who may still stand under the former parameters to the new ones: silence up to the adoption is
// played under the former, then the customer is evaluated once under the new. changed is false if the customer is as
// before, byte for byte: when the evaluation differs in nothing but the versions it leaves no trace, as one at any
// other instant (semantics 6). A customer who stands under the new version already is left alone, so Adopt may come
// any number of times. Where silence leads, as his profile says it, is a difference too.
func (c *Customer) Adopt(a *Adoption, say Telling, out []Change) (_ []Change, changed bool) {
	if !c.Evaluated || c.Versions == a.Is.Versions {
		return out, false
	}
	at, before := max(a.At, c.EvaluatedAt), c.EvaluatedAt
	out = c.Advance(a.Was, at, say, out)
	changed = c.EvaluatedAt != before
	was, due, orders, leads := c.Standing, c.Due, len(c.Orders), c.next(a.Was)
	differs := c.next(a.Is) != leads
	was.Versions = a.Is.Versions
	c.scratch = c.AppendTo(c.scratch[:0])
	c.settle(at, a.Is.Window)
	out = c.evaluate(a.Is, at, a.Cause, !a.Announce, say, out)
	differs = differs || c.next(a.Is) != leads
	// What a shorter window settles cannot come back, so it is kept.
	if differs || c.Standing != was || c.Due != due || (len(c.Orders) != orders && a.Is.Window < a.Was.Window) {
		return out, true
	}
	if err := c.Decode(c.scratch); err != nil {
		panic(err) // we have just written it
	}
	return out, changed
}
