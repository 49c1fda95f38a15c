package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestValueNeverPrintsItself(t *testing.T) {
	t.Parallel()
	const plain = "hunter2-hunter2"
	type holder struct {
		V Value
		P *Value
	}
	v := New(plain)
	h := holder{V: v, P: &v}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", v)
		fmt.Fprintf(&out, verb+"\n", h)
		fmt.Fprintf(&out, verb+"\n", &h)
	}
	j, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	out.Write(y)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v, "h", h)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v, "h", h)
	for _, leak := range []string{plain, fmt.Sprintf("%x", plain)} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("the secret is in the output:\n%s", out.String())
		}
	}
	if got := v.Reveal(); got != plain {
		t.Errorf("Reveal() = %q, want the content", got)
	}
}

func TestRefResolve(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "s")
	if err := os.WriteFile(file, []byte("content\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := func(k string) string { return map[string]string{"SET": "from env"}[k] }
	for name, tc := range map[string]struct {
		ref     Ref
		want    string
		wantErr string
	}{
		"file":                              {Ref{File: file}, "content", ""},
		"env":                               {Ref{Env: "SET"}, "from env", ""},
		"nothing":                           {Ref{}, "", ""},
		"env not set":                       {Ref{Env: "UNSET"}, "", "UNSET is not set"},
		"no file":                           {Ref{File: filepath.Join(dir, "none")}, "", "read secret file"},
		"empty file":                        {Ref{File: empty}, "", "is empty"},
		"the secret where its name belongs": {Ref{Env: "xoxb-1-hunter2"}, "", "no name of an environment variable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tc.ref.Resolve(env)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error %v, want one with %q", err, tc.wantErr)
				}
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("the error shows the secret: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Reveal() != tc.want {
				t.Errorf("got another content than %q", tc.want)
			}
		})
	}
}
