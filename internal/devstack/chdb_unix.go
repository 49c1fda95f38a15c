//go:build linux || darwin

package devstack

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/ebitengine/purego"
)

// runChdb loads libchdb and runs clickhouse-local's entry point with argv until
// it returns. libchdb's signal handlers stay off, because they would replace
// those of the Go runtime.
func runChdb(lib string, argv []string) error {
	h, err := purego.Dlopen(lib, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return fmt.Errorf("load libchdb: %w", err)
	}
	for _, name := range []string{"chdb_set_signal_handlers_enabled", "chdb_query_cmdline", "chdb_result_error"} {
		if _, err := purego.Dlsym(h, name); err != nil {
			return fmt.Errorf("libchdb is not the expected version: %w", err)
		}
	}
	var (
		setSignalHandlers func(enabled int32)
		queryCmdline      func(argc int32, argv **byte) uintptr
		resultError       func(result uintptr) string
	)
	purego.RegisterLibFunc(&setSignalHandlers, h, "chdb_set_signal_handlers_enabled")
	purego.RegisterLibFunc(&queryCmdline, h, "chdb_query_cmdline")
	purego.RegisterLibFunc(&resultError, h, "chdb_result_error")

	setSignalHandlers(0)
	if err := parkAborts(); err != nil {
		return err
	}
	ptrs := make([]*byte, len(argv)+1) // C wants a null after the last
	for i, a := range argv {
		b := append([]byte(a), 0)
		ptrs[i] = &b[0]
	}
	var pin runtime.Pinner
	defer pin.Unpin()
	for _, p := range ptrs {
		if p != nil {
			pin.Pin(p)
		}
	}
	pin.Pin(&ptrs[0])
	result := queryCmdline(int32(len(argv)), &ptrs[0])
	if result == 0 {
		return errors.New("libchdb gave no result")
	}
	if msg := resultError(result); msg != "" {
		return fmt.Errorf("ClickHouse: %s", msg)
	}
	return nil
}
