//go:build goexperiment.jsonv2

package event_test

import "encoding/json/v2"

var unmarshalV2 = func(text []byte, v *plain) error { return json.Unmarshal(text, v) }
