package rules

// File is one rule file: its name, as diagnostics show it, and its contents.
type File struct {
	Name string
	Data []byte
}

// Layout says what the rules' field names are names of.
type Layout uint8

// The layouts.
const (
	// LayoutJSON: paths into a JSON record, dots between the keys.
	LayoutJSON Layout = iota
	// LayoutEvent: fields of the canonical event; another name is an error.
	LayoutEvent
)

// Options of a load. The zero value takes field names as written, any logsource
// and no placeholders.
type Options struct {
	// Mapping translates field names; the zero value takes them as written.
	Mapping Mapping
	// Placeholders are the values of %name% in values with |expand.
	Placeholders map[string][]string
	// LogSource, when not empty, leaves out rules whose logsource contradicts it.
	LogSource map[string]string
	// AnyLogSource makes MatchEvent try every rule whatever its logsource.
	AnyLogSource bool
	// Fields are read beside those that rules name, for Program.Slot.
	Fields []string
	// Layout of the records.
	Layout Layout
	// Disable lists ids and names of documents to leave out; a correlation that
	// refers to one is left out too, with a warning.
	Disable []string
	// NoIndex evaluates every rule on every record: slow, for tests of the index.
	NoIndex bool
}

// Mapping translates the field names of rules to names of the record.
type Mapping struct {
	// Fields gives the places to look at, in order; the first present wins.
	Fields map[string][]string
	// Prefixes are put before names that Fields lacks, in order; "" is the name
	// itself. Empty means the name itself only.
	Prefixes []string
}

// Severity of a diagnostic.
type Severity uint8

// The severities.
const (
	Note Severity = iota
	Warning
	Error
)

// Diagnostic is one remark about one place of a file.
type Diagnostic struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"` // 1-based; 0 when the whole file is meant
	Col      int      `json:"col"`
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"`
}
