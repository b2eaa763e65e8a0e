package holdout

import (
	"cmp"
	"math"
	"slices"
)

// Totals hold numbers of orders that were expected against those that came.
type Totals struct {
	Predicted   float64 `json:"predicted"`
	Bias        float64 `json:"bias"` // of the total, relative
	MAE         float64 `json:"mae"`
	RMSE        float64 `json:"rmse"`
	Correlation float64 `json:"correlation"` // Pearson; 0 if either does not vary
}

func totals(predicted, actual []float64) Totals {
	var t Totals
	var sum float64
	n := float64(len(actual))
	for i, a := range actual {
		t.Predicted += predicted[i]
		sum += a
		t.MAE += math.Abs(predicted[i]-a) / n
		t.RMSE += (predicted[i] - a) * (predicted[i] - a) / n
	}
	t.RMSE, t.Correlation = math.Sqrt(t.RMSE), pearson(predicted, actual)
	if sum > 0 {
		t.Bias = t.Predicted/sum - 1
	}
	return t
}

func pearson(a, b []float64) float64 {
	n := float64(len(a))
	var ma, mb float64
	for i := range a {
		ma += a[i] / n
		mb += b[i] / n
	}
	var aa, bb, ab float64
	for i := range a {
		aa += (a[i] - ma) * (a[i] - ma)
		bb += (b[i] - mb) * (b[i] - mb)
		ab += (a[i] - ma) * (b[i] - mb)
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return ab / math.Sqrt(aa*bb)
}

// Ranking is how well a score tells those who ordered from those who did not.
type Ranking struct {
	AUC     float64 `json:"auc"`             // 1/2: not at all
	Lift    float64 `json:"top_decile_lift"` // rate of those who ordered in the best tenth, relative to that of all
	Capture float64 `json:"top_decile_capture"`
}

// ranking ranks by score, greatest first. Customers with equal scores share what they have.
func ranking(score []float64, active []bool) Ranking {
	order := make([]int, len(score))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(score[b], score[a]) })
	n, top := float64(len(order)), float64(tenth(len(order)))
	var hits, positives, above, pairs float64
	for from, to := 0, 0; from < len(order); from = to {
		var p float64
		for to = from; to < len(order) && score[order[to]] == score[order[from]]; to++ {
			if active[order[to]] {
				p++
			}
		}
		size := float64(to - from)
		hits += p * min(max(top-float64(from), 0), size) / size
		// negatives in this group have `positives` above them, and half of p beside them
		pairs += (size - p) * (positives + p/2)
		positives += p
		above += size - p
	}
	var r Ranking
	if positives > 0 && above > 0 {
		r.AUC = pairs / positives / above
	}
	if positives > 0 {
		r.Capture = hits / positives
		r.Lift = hits / top / (positives / n)
	}
	return r
}

// tenth is the size of the best tenth.
func tenth(n int) int { return max(1, int(math.Round(float64(n)/10))) }

// captured is the share of an amount that the best tenth by score has; equal scores share.
func captured(score, amount []float64) float64 {
	order := make([]int, len(score))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(score[b], score[a]) })
	top := float64(tenth(len(order)))
	var all, share float64
	for from, to := 0, 0; from < len(order); from = to {
		var sum float64
		for to = from; to < len(order) && score[order[to]] == score[order[from]]; to++ {
			sum += amount[order[to]]
		}
		size := float64(to - from)
		share += sum * min(max(top-float64(from), 0), size) / size
		all += sum
	}
	if all == 0 {
		return 0
	}
	return share / all
}

// Probabilities hold a probability to order against who did.
type Probabilities struct {
	Mean    float64 `json:"mean"`
	Brier   float64 `json:"brier"`
	LogLoss float64 `json:"log_loss"`
	ECE     float64 `json:"ece"` // expected calibration error over the bins
	Bins    []Bin   `json:"bins"`
}

// Bin is a tenth of the customers, by their probability.
type Bin struct {
	Customers int     `json:"customers"`
	Predicted float64 `json:"predicted"` // mean
	Observed  float64 `json:"observed"`  // share of those who ordered
}

const bins = 10

func probabilities(p []float64, active []bool) Probabilities {
	var r Probabilities
	n := float64(len(p))
	for i, v := range p {
		y := indicator(active[i])
		r.Mean += v / n
		r.Brier += (v - y) * (v - y) / n
		r.LogLoss += logLoss(v, active[i]) / n
	}
	r.Bins = calibration(p, active)
	for _, b := range r.Bins {
		r.ECE += float64(b.Customers) / n * math.Abs(b.Predicted-b.Observed)
	}
	return r
}

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// logLoss is -ln of the probability of what happened; probabilities of 0 and 1 are taken for nearly so.
func logLoss(p float64, active bool) float64 {
	if !active {
		p = 1 - p
	}
	return -math.Log(max(p, 1e-15))
}

// calibration are bins of as equal numbers as can be, the greater first; customers with equal probabilities stay in the
// order they came in.
func calibration(p []float64, active []bool) []Bin {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	var out []Bin
	for k, from := 0, 0; k < bins && from < len(order); k++ {
		size := len(order) / bins
		if k < len(order)%bins {
			size++
		}
		if size == 0 {
			continue
		}
		b := Bin{Customers: size}
		for i := from; i < from+size; i++ {
			b.Predicted += p[order[i]] / float64(size)
			b.Observed += indicator(active[order[i]]) / float64(size)
		}
		out = append(out, b)
		from += size
	}
	return out
}
