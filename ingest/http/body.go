package httpingest

import (
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
)

// format is how a body holds its events.
type format uint8

const (
	formatJSON       format = iota // one object, or an array of them
	formatLines                    // one object a line
	formatCloudEvent               // one CloudEvent in the JSON format
	formatCloudBatch               // an array of them
	formatCloudParts               // one CloudEvent in binary mode: attributes in headers, data in the body
)

const (
	typeJSON       = "application/json"
	typeLines      = "application/x-ndjson"
	typeCloudEvent = "application/cloudevents+json"
	typeCloudBatch = "application/cloudevents-batch+json"
)

// formatOf tells the format by the headers, as the HTTP binding of CloudEvents 1.0
// does (section 3): what is not structured and has ce-specversion is binary.
func formatOf(h http.Header) (format, *answer) {
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, given := params["charset"]
	switch {
	case err != nil || len(h.Values("Content-Type")) != 1:
		return 0, unknownType()
	case given && !strings.EqualFold(charset, "utf-8"):
		return 0, refuse(http.StatusUnsupportedMediaType, "events are UTF-8")
	case kind == typeCloudEvent:
		return formatCloudEvent, nil
	case kind == typeCloudBatch:
		return formatCloudBatch, nil
	case len(h.Values("Ce-Specversion")) > 0 && (kind == typeJSON || strings.HasSuffix(kind, "+json")):
		return formatCloudParts, nil
	case len(h.Values("Ce-Specversion")) > 0:
		return 0, refuse(http.StatusUnsupportedMediaType, "the data of a CloudEvent is posted as JSON here")
	case kind == typeJSON:
		return formatJSON, nil
	case kind == typeLines:
		return formatLines, nil
	}
	return 0, unknownType()
}

func unknownType() *answer {
	return refuse(http.StatusUnsupportedMediaType, "give one Content-Type of %s, %s, %s, %s", typeJSON, typeLines, typeCloudEvent, typeCloudBatch)
}

// readBody reads at most limit bytes, counted before and after decompression.
func readBody(w http.ResponseWriter, r *http.Request, limit int) ([]byte, *answer) {
	tooLarge := refuse(http.StatusRequestEntityTooLarge, "the body is larger than the %d bytes that this source may send at once", limit)
	if r.ContentLength > int64(limit) {
		return nil, tooLarge
	}
	var in io.Reader = http.MaxBytesReader(w, r.Body, int64(limit))
	zipped := false
	switch coding := strings.Join(r.Header.Values("Content-Encoding"), ","); strings.ToLower(coding) {
	case "", "identity":
	case "gzip", "x-gzip": // RFC 9110, section 8.4.1.3: they mean the same
		zipped = true
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return nil, unreadable(err, true, tooLarge)
		}
		in = unzipped
	default:
		return nil, refuse(http.StatusUnsupportedMediaType, "the body may be compressed with gzip only").with("Accept-Encoding", "gzip")
	}
	body, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	switch {
	case err != nil:
		return nil, unreadable(err, zipped, tooLarge)
	case len(body) > limit:
		return nil, tooLarge
	}
	return body, nil
}

// unreadable is the answer to a body that could not be read to its end.
func unreadable(err error, zipped bool, tooLarge *answer) *answer {
	var large *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &large):
		return tooLarge
	case errors.As(err, &network) && network.Timeout():
		return refuse(http.StatusRequestTimeout, "the body did not arrive in time; nothing was accepted").with("Connection", "close")
	case zipped:
		return refuse(http.StatusBadRequest, "the body is no whole gzip; nothing was accepted")
	}
	return refuse(http.StatusBadRequest, "the body broke off; nothing was accepted")
}
