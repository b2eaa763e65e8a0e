package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress tells how long work gets on: a line that is redrawn on a terminal, plain lines otherwise. A nil progress is
// silent.
type progress struct {
	mu       sync.Mutex
	w        *os.File
	terminal bool
	name     string
	total    int
	n        int
	began    time.Time
	told     time.Time
}

func newProgress(w *os.File) *progress {
	return &progress{w: w, terminal: term.IsTerminal(int(w.Fd())) && os.Getenv("TERM") != "dumb"}
}

// phase begins a piece of work; what it counts comes with count.
func (p *progress) phase(name string) { p.phaseOf(name, 0) }

// phaseOf begins a piece of work of known size.
func (p *progress) phaseOf(name string, total int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
	p.name, p.total, p.n, p.began = name, total, 0, time.Now()
	p.draw()
}

// count says how much is done. It may be called often.
func (p *progress) count(n int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n = n
	every := 100 * time.Millisecond
	if !p.terminal {
		every = 10 * time.Second
	}
	if time.Since(p.told) >= every {
		p.draw()
	}
}

// done ends the last piece.
func (p *progress) done() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end()
}

func (p *progress) draw() {
	p.told = time.Now()
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", p.line())
	} else if p.n > 0 {
		fmt.Fprintln(p.w, p.line())
	}
}

func (p *progress) end() {
	if p.name == "" {
		return
	}
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K")
	}
	took := time.Since(p.began).Round(10 * time.Millisecond)
	if p.n > 0 {
		fmt.Fprintf(p.w, "%s: %d in %v\n", p.name, p.n, took)
	} else {
		fmt.Fprintf(p.w, "%s: %v\n", p.name, took)
	}
	p.name = ""
}

func (p *progress) line() string {
	rate := float64(p.n) / max(time.Since(p.began).Seconds(), 0.001)
	switch {
	case p.n == 0:
		return p.name + " ..."
	case p.total == 0:
		return fmt.Sprintf("%s: %d (%.0f/s)", p.name, p.n, rate)
	}
	const width = 30
	full := min(width*p.n/p.total, width)
	bar := make([]byte, width)
	for i := range bar {
		bar[i] = ' '
		if i < full {
			bar[i] = '='
		}
	}
	left := time.Duration(float64(p.total-p.n)/max(rate, 1)) * time.Second
	return fmt.Sprintf("%s [%s] %3d %% %d/%d (%.0f/s, %v left)", p.name, bar, 100*p.n/p.total, p.n, p.total, rate, left.Round(time.Second))
}
