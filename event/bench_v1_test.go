//go:build !goexperiment.jsonv2

package event_test

// unmarshalV2 is nil: encoding/json/v2 is there under GOEXPERIMENT=jsonv2 only,
// which also puts encoding/json on top of it.
var unmarshalV2 func([]byte, *plain) error
