package pipeline

import "github.com/twmb/franz-go/pkg/kgo"

// Share sets how many bytes of the changelog are written to a store at once when it is restored.
func (p *Pipeline) Share(bytes int) { p.share = bytes }

// Touch sets a function that is called with each record before it is decoded; a panic of it is one of our own code.
func (p *Pipeline) Touch(f func(*kgo.Record)) {
	p.touched = func(where string, what any) {
		if r, ok := what.(*kgo.Record); ok && where == "record" {
			f(r)
		}
	}
}
