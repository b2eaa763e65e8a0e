package pipeline

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// mostLinks is how many traces of its records a cycle links to: it may have taken tens of thousands.
const mostLinks = 32

// traceparent is the header of a record that names the span it was written in (W3C Trace Context).
const traceparent = "traceparent"

var untraced = noop.NewTracerProvider().Tracer("")

// span begins a span of a shard: "acquire", whose events are its steps, or "cycle", which links to the traces of its records and
// has a span below it for each phase. It tells nothing of customers. What is never finished is never told.
func (p *Pipeline) span(ctx context.Context, name string, shard int32, began time.Time) (context.Context, trace.Span) {
	if p.deps.Tracer == nil {
		return untraced.Start(ctx, name)
	}
	return p.deps.Tracer.Start(ctx, name, trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("messaging.system", "kafka"),
		attribute.String("messaging.consumer.group.name", p.cfg.App),
		attribute.Int("asiduo.shard", int(shard)),
	))
}

// finish ends a span; err is why what it covers has failed.
func finish(span trace.Span, err error) {
	if err != nil {
		span.SetAttributes(attribute.String("error.type", reasonOf(err)))
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// cycleSpan begins the span of the cycle that is about to be committed.
func (s *shard) cycleSpan(ctx context.Context, began time.Time) (context.Context, trace.Span) {
	c := &s.cycle
	ctx, span := s.p.span(ctx, "cycle", s.id, began)
	if span.IsRecording() {
		span.SetAttributes(
			attribute.Int64("asiduo.cycle", int64(s.mark.Cycle)+1),
			attribute.Int("messaging.batch.message_count", c.consumed),
			attribute.Int("asiduo.outputs", len(c.out)),
			attribute.Int("asiduo.timers", len(c.timers)),
		)
		for _, link := range c.links {
			span.AddLink(link)
		}
	}
	return ctx, span
}

// follow notes the trace that a record belongs to, if that is recorded.
func (s *shard) follow(r *kgo.Record) {
	if s.p.deps.Tracer == nil || len(s.cycle.links) == mostLinks {
		return
	}
	for _, h := range r.Headers {
		if h.Key != traceparent {
			continue
		}
		carrier := propagation.MapCarrier{traceparent: string(h.Value)}
		from := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
		if from.IsSampled() {
			s.cycle.links = append(s.cycle.links, trace.Link{SpanContext: from})
		}
		return
	}
}

// imprint gives what leaves the shard the trace of its cycle, so that subscribers can follow it.
func imprint(ctx context.Context, out []*kgo.Record) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	for _, r := range out {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: traceparent, Value: []byte(carrier[traceparent])})
	}
}

// gaining is the span of the acquisition that ctx is about; nil when nobody wants traces.
func (p *Pipeline) gaining(ctx context.Context) trace.Span {
	if p.deps.Tracer == nil {
		return nil
	}
	return trace.SpanFromContext(ctx)
}

// step notes in the acquisition's span where it has come to.
func (s *shard) step(step Step) {
	if s.gaining != nil && step != WithinRestore { // as often as there are pieces
		s.gaining.AddEvent(string(step))
	}
}

// phase tells how long a phase of a cycle has taken.
func (s *shard) phase(ctx context.Context, name string, began time.Time) {
	now := time.Now()
	observe(ctx, s.p.metrics.phases.WithLabelValues(label(s.id), name), now.Sub(began))
	if s.p.deps.Tracer != nil {
		_, span := s.p.deps.Tracer.Start(ctx, name, trace.WithTimestamp(began))
		span.End(trace.WithTimestamp(now))
	}
}

// observe adds to a histogram, with the trace as an exemplar if it is recorded.
func observe(ctx context.Context, h prometheus.Observer, took time.Duration) {
	if at := trace.SpanContextFromContext(ctx); at.IsSampled() {
		if e, ok := h.(prometheus.ExemplarObserver); ok {
			e.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": at.TraceID().String()})
			return
		}
	}
	h.Observe(took.Seconds())
}
