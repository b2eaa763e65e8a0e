package measure

import "time"

// Sample is how far a run is.
type Sample struct {
	At      time.Duration
	CPU     float64 // seconds
	Done    int64   // records of the input
	Outputs int64
}

// Account says what a run over so many records has cost: microseconds of CPU for each record of the whole run, for each of its second
// half, and records a second in that. The second half begins when half of the input is done. A run too short for one has the whole in its place.
func Account(samples []Sample, events int64) (whole, half, rate float64) {
	last := samples[len(samples)-1]
	var from Sample
	for _, from = range samples {
		if from.Done >= events/2 {
			break
		}
	}
	if from.Done == last.Done {
		from = Sample{}
	}
	rest := float64(last.Done - from.Done)
	return last.CPU / float64(events) * 1e6, (last.CPU - from.CPU) / rest * 1e6, rest / (last.At - from.At).Seconds()
}
