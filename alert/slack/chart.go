package slack

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/go-analyze/charts"
	slackapi "github.com/slack-go/slack"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/detect/finding"
)

const (
	chartWidth, chartHeight = 800, 300
	maxPoints               = 1000
)

// Chart uploads m.Series as a picture into the thread of the message ts.
func (s *Slack) Chart(ctx context.Context, m alert.Message, ts string) error {
	png, err := drawSeries(m.Series)
	if err != nil {
		return fmt.Errorf("draw chart: %w", err)
	}
	if _, err := s.api.UploadFileContext(ctx, slackapi.UploadFileParameters{
		Reader: bytes.NewReader(png), FileSize: len(png), Filename: "events.png", Title: "Events per " + bucketWords(m.Series),
		AltTxt: "Line chart of the events that led to this incident", Channel: m.Channel, ThreadTimestamp: ts,
	}); err != nil {
		return failure(err)
	}
	return nil
}

// maxLabels is how many times of day fit under the chart without touching.
const maxLabels = 6

// drawSeries renders counts per bucket as a PNG.
func drawSeries(s finding.Series) ([]byte, error) {
	counts := s.Counts
	if len(counts) > maxPoints {
		counts = counts[len(counts)-maxPoints:]
	}
	skipped := len(s.Counts) - len(counts)
	labels := make([]string, len(counts))
	for i := range counts {
		labels[i] = s.Start.Add(time.Duration(s.Bucket) * time.Duration(i+skipped)).Time().Format("15:04:05")
	}
	p, err := charts.LineRender([][]float64{counts}, charts.PNGOutputOptionFunc(),
		charts.TitleTextOptionFunc("Events per "+bucketWords(s)), charts.XAxisLabelsOptionFunc(labels),
		charts.DimensionsOptionFunc(chartWidth, chartHeight), func(o *charts.ChartOption) { o.XAxis.LabelCount = maxLabels })
	if err != nil {
		return nil, err
	}
	return p.Bytes()
}

func bucketWords(s finding.Series) string {
	if s.Bucket <= 0 {
		return "bucket"
	}
	return time.Duration(s.Bucket).String()
}
