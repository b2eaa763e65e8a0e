package fit

// The gain of twice the log likelihood below which dropout is held for not shown: the 5 % point of the test on the
// boundary is 2.71.
const leastGain = 3

// closeLL is how much likelihood a model may be behind and still be preferred for being simpler to compute with.
const closeLL = 2

// Fits are the estimates of several kinds from the same histories, and which of them to use.
type Fits struct {
	Summary   Summary
	Estimates []Estimate // in the order asked for; NBD last if it was not asked for
	Chosen    int        // index of the one to use
	Reason    string     // why
}

// Use is the chosen estimate.
func (f *Fits) Use() *Estimate { return &f.Estimates[f.Chosen] }

// Of is the estimate of a kind, nil if there is none.
func (f *Fits) Of(kind Kind) *Estimate {
	for i := range f.Estimates {
		if f.Estimates[i].Kind == kind {
			return &f.Estimates[i]
		}
	}
	return nil
}

// Choose estimates the kinds and takes the one with the greatest likelihood, the first of those that are as good as it;
// NBD if no other shows dropout. With one kind, that is taken, whatever its status.
func Choose(histories []History, kinds ...Kind) *Fits {
	all := Group(histories)
	f := &Fits{Summary: Summarize(histories)}
	null := false
	for _, kind := range kinds {
		f.Estimates = append(f.Estimates, fitGrouped(kind, all, f.Summary))
		null = null || kind == NBD
	}
	if !null {
		f.Estimates = append(f.Estimates, fitGrouped(NBD, all, f.Summary))
	}
	f.compare()
	f.choose(len(kinds))
	return f
}

// compare gives each estimate the status that only the others and the data can tell.
func (f *Fits) compare() {
	few, null := f.Summary.Enough(), f.Of(NBD).LogLikelihood
	for i := range f.Estimates {
		e := &f.Estimates[i]
		switch gain := 2 * (e.LogLikelihood - null); {
		case e.Kind == NBD:
		case gain < -leastGain:
			e.Status, e.Reason = NotConverged, textf("its log likelihood is %.2f below that of NBD, which is a case of it", -gain/2)
		case gain < leastGain:
			e.Status = NoDropout
			e.Reason = textf("twice the log likelihood is %.2f above that of NBD, less than %d: the data do not show that anybody leaves", max(gain, 0), leastGain)
		}
		if few != "" {
			e.Status, e.Reason = TooFew, few
		}
	}
}

func (f *Fits) choose(asked int) {
	if asked == 1 {
		f.Reason = "asked for"
		return
	}
	best := -1
	for i := range f.Estimates {
		e := &f.Estimates[i]
		if e.Kind == NBD || e.Status != Good && e.Status != TooFew {
			continue
		}
		if best < 0 || e.LogLikelihood > f.Estimates[best].LogLikelihood {
			best = i
		}
	}
	if best < 0 {
		for i := range f.Estimates {
			if f.Estimates[i].Kind == NBD {
				f.Chosen = i
			}
		}
		f.Reason = "no model with dropout is identified by these data"
		return
	}
	top := f.Estimates[best]
	for i := range f.Estimates {
		e := &f.Estimates[i]
		if e.Kind == NBD || e.Status != top.Status || e.LogLikelihood < top.LogLikelihood-closeLL {
			continue
		}
		f.Chosen = i
		break
	}
	chosen := f.Use()
	if f.Chosen == best {
		f.Reason = textf("the greatest log likelihood, %.2f", chosen.LogLikelihood)
		for i := range f.Estimates {
			if e := &f.Estimates[i]; i != best {
				f.Reason += textf("; %s %.2f", e.Kind, e.LogLikelihood)
			}
		}
		return
	}
	f.Reason = textf("its log likelihood %.2f is within %d of the greatest (%s, %.2f), and it is simpler to compute with",
		chosen.LogLikelihood, closeLL, top.Kind, top.LogLikelihood)
}
