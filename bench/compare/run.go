package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/asiduo/asiduo/bench/measure"
)

const (
	tick  = 100 * time.Millisecond
	quiet = 3 * time.Second // nothing has moved for so long: done

	partitions = 4 // of every topic
)

// result is what one run has cost. The second half begins when half of the input is committed: without start, and with most of
// what a JVM compiles behind it.
type result struct {
	whole, half float64 // microseconds of CPU for each record, user and system, of the process itself
	rate        float64 // records a second, second half
	peak        float64 // MiB
	disk        int64   // bytes in its directory at the end
	changelog   int64   // bytes of its changelogs on the broker
	outputs     int64
	customers   int64
	check       string
}

// run measures one peer, from outside.
func (o *options) run(ctx context.Context, b *measure.Broker, name, input, group string, wanted int) (r result, err error) {
	p := o.find(name)
	output := fmt.Sprintf(p.output, group)
	if err := b.Create(ctx, output, partitions); err != nil {
		return r, err
	}
	dir := filepath.Join(o.work, group)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return r, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	args := o.command(p, wanted)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) // #nosec G204 -- built above
	cmd.Env = append(os.Environ(), "PEER_BROKERS="+b.Address, "PEER_INPUT="+input, "PEER_OUTPUT="+output, "PEER_GROUP="+group, "PEER_DIR="+dir)
	log, err := os.Create(filepath.Join(o.work, group+".log"))
	if err != nil {
		return r, err
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return r, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its log says why
		close(ended)
	}()
	watched := group
	if p.group != "" {
		watched = fmt.Sprintf(p.group, group)
	}
	samples, err := o.watch(ctx, b, cmd.Process.Pid, began, input, watched, output, ended)
	r.peak = measure.Status(cmd.Process.Pid, "VmHWM:") / 1024
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
	}
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return r, fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
	}
	r.whole, r.half, r.rate = measure.Account(samples, int64(o.events))
	r.disk = measure.Size(dir)
	if r.changelog, err = b.Changelog(ctx, group); err != nil {
		return r, err
	}
	if err := o.judge(ctx, b, p, input, output, &r); err != nil {
		return r, err
	}
	return r, b.Drop(ctx, group)
}

// watch takes samples until the whole input is committed and the output has stopped growing.
func (o *options) watch(ctx context.Context, b *measure.Broker, pid int, began time.Time, input, group, output string, ended <-chan struct{}) (samples []measure.Sample, err error) {
	moved := 0 // index of the last sample in which something did
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ended:
			return nil, errors.New("it has ended early")
		case <-time.After(tick):
		}
		s := measure.Sample{At: time.Since(began), CPU: measure.CPU(pid), Done: b.Done(ctx, group, input)}
		if s.Outputs, err = b.Outputs(ctx, output); err != nil {
			return nil, err
		}
		samples = append(samples, s)
		if was := samples[moved]; s.Done != was.Done || s.Outputs != was.Outputs {
			moved = len(samples) - 1
		}
		switch still := s.At - samples[moved].At; {
		case s.Done >= int64(o.events) && still > quiet:
			return samples[:moved+1], nil
		case s.At > o.limit:
			return nil, fmt.Errorf("%d of %d records after %v", s.Done, o.events, o.limit)
		}
	}
}

// judge holds what has been written against the reference model.
func (o *options) judge(ctx context.Context, b *measure.Broker, p peer, input, output string, r *result) error {
	told, err := o.tool(ctx, "check", append([]string{"-brokers", b.Address, "-input", input, "-output", output, "-cache", o.expectation()}, p.check...)...)
	if err != nil {
		return err
	}
	outputs, err := number(told, "outputs")
	if err != nil {
		return err
	}
	r.outputs = int64(outputs)
	if customers, err := number(told, "customers"); err == nil {
		r.customers = int64(customers)
	}
	r.check, _, _ = strings.Cut(strings.TrimPrefix(told, "check="), " ")
	return nil
}
