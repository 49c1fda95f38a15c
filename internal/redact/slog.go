package redact

import (
	"context"
	"fmt"
	"log/slog"
)

// Handler wraps next so that no record reaches it with a secret in its message
// or attributes.
func (r *Redactor) Handler(next slog.Handler) slog.Handler { return &handler{r, next} }

type handler struct {
	r    *Redactor
	next slog.Handler
}

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

func (h *handler) Handle(ctx context.Context, rec slog.Record) error {
	msg, _ := h.r.String(rec.Message)
	out := slog.NewRecord(rec.Time, rec.Level, msg, rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(h.attr(a))
		return true
	})
	return h.next.Handle(ctx, out)
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	masked := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		masked[i] = h.attr(a)
	}
	return &handler{h.r, h.next.WithAttrs(masked)}
}

func (h *handler) WithGroup(name string) slog.Handler { return &handler{h.r, h.next.WithGroup(name)} }

// attr masks one attribute, groups member by member. A value of another kind is
// judged by how it prints, and becomes that text when it has to be masked. An
// attribute whose own name is telling loses its value whatever that looks like.
func (h *handler) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindGroup:
		members := v.Group()
		masked := make([]slog.Attr, len(members))
		for i, m := range members {
			masked[i] = h.attr(m)
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(masked...)}
	case slog.KindString:
		if name, ok := nameBefore(a.Key, len(a.Key)); ok && tells(name) && v.String() != "" {
			return slog.String(a.Key, "[redacted:"+string(Named)+"]")
		}
		if s, hit := h.r.String(v.String()); hit {
			return slog.String(a.Key, s)
		}
	case slog.KindAny:
		if s, hit := h.r.String(fmt.Sprintf("%+v", v.Any())); hit {
			return slog.String(a.Key, s)
		}
	}
	return slog.Attr{Key: a.Key, Value: v}
}
