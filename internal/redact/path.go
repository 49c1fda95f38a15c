package redact

import "strings"

// oneTime are segments of a path after which stands what opens something once.
var oneTime = map[string]bool{
	"reset": true, "verify": true, "verification": true, "confirm": true, "confirmation": true, "invite": true,
	"invitation": true, "activate": true, "activation": true, "magic": true, "magiclink": true, "unsubscribe": true,
	"passwordreset": true, "resetpassword": true, "recover": true, "recovery": true, "claim": true, "sso": true, "otp": true,
}

// inPath recognises the run s[i:j] as a secret by where it stands in a path: behind a
// telling segment, or in the address of a webhook. What is only letters, only digits,
// a UUID, or, behind a step such as verify, words and numbers names something.
func inPath(s string, i, j int) Kind {
	if i < 2 || s[i-1] != '/' || !letterAndDigit(s[i:j]) || uuid(s[i:j]) {
		return ""
	}
	if before := s[max(0, i-64):i]; strings.Contains(before, "hooks.slack.com/") ||
		strings.Contains(before, "/api/webhooks/") || strings.Contains(before, "webhook.office.com/") {
		return Token
	}
	if name, ok := nameBefore(s, i-1); ok && (tells(name) || oneTime[name] && !words(s[i:j])) {
		return Named
	}
	return ""
}

func letterAndDigit(s string) bool {
	var seen uint8
	for i := range len(s) {
		seen |= class[s[i]]
	}
	return seen&digit != 0 && seen&(upper|lower) != 0
}
