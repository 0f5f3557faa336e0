package password

import (
	"strings"
	"testing"
)

func TestABrokenRuleIsNamed(t *testing.T) {
	for text, rule := range map[string]string{
		good:                                 "",
		"Kelp-forest-2":                      "",
		"Ключ-и-замок-29":                    "", // letters are letters
		"Kelp forest 29":                     "", // a space is special
		strings.Repeat("Kelp-29!", 32):       "",
		strings.Repeat("Kelp-29!", 32) + "x": "256 bytes",
		strings.Repeat("é", 127) + "Kk1!":    "256 bytes",
		"":                                   "12 characters",
		"Kelp-29!":                           "12 characters",
		"éÉ1!éÉ1!éÉ1":                        "12 characters", // eleven, of more bytes
		"kelp-forest-29!":                    "upper-case",
		"KELP-FOREST-29!":                    "lower-case",
		"Kelp-forest-xy!":                    "digit",
		"KelpForest2927":                     "special",
		"Kelpppforest-29!":                   "equal",
		"Kelp---forest-29!":                  "equal",
		"Kelp-forest-2999!":                  "equal",
		"Kelp-abc-forest-29!":                "follow",
		"Kelp-CBA-forest-29!":                "follow",
		"Kelp-forest-123!":                   "follow",
		"Kelp-forest-987!":                   "follow",
		"Kelp-forest()*29":                   "", // only letters and digits follow each other
		"Kelp-aab-bcc-13579":                 "",
		"Kelp-aBc-forest-29":                 "",
		"Kelp-forest-29\xff":                 "UTF-8",
		"Kelp-forest-" + strings.Repeat("\x00", 2) + "29": "",
	} {
		err := Check(text)
		if rule == "" && err != nil || rule != "" && (err == nil || !strings.Contains(err.Error(), rule)) {
			t.Errorf("Check(%q) = %v, want %q", text, err, rule)
		}
		if err != nil && len(text) > 3 && strings.Contains(err.Error(), text) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}
