package console

import "testing"

func TestALoopbackPortAnswersToItsOwnNamesOnly(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		listen, advertise, host string
		want                    bool
	}{
		"address":                {"127.0.0.1:8340", "", "127.0.0.1:8340", true},
		"localhost":              {"127.0.0.1:8340", "", "localhost:8340", true},
		"without a port":         {"127.0.0.1:80", "", "localhost", true},
		"IPv6":                   {"[::1]:8340", "", "[::1]:8340", true},
		"IPv6 without a port":    {"[::1]:80", "", "[::1]", true},
		"a name that leads here": {"127.0.0.1:8340", "", "evil.example:8340", false},
		"a name like ours":       {"127.0.0.1:8340", "", "localhost.evil.example", false},
		"no name":                {"127.0.0.1:8340", "", "", false},
		"the advertised name":    {"127.0.0.1:8340", "https://keysentry.example", "keysentry.example", true},
		"beside the advertised":  {"127.0.0.1:8340", "https://keysentry.example", "evil.example", false},
		"a public port":          {"192.0.2.1:8340", "", "anything.example", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Config{Listen: tc.listen, Advertise: tc.advertise}
			if got := c.answersTo(tc.host); got != tc.want {
				t.Errorf("answersTo(%q) = %t, want %t", tc.host, got, tc.want)
			}
		})
	}
}
