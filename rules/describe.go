package rules

// Described is one word of the language and what it means. The tables below are
// the source of the reference page, which a test compares with them, and of what
// lint suggests.
type Described struct {
	Name, Meaning string
	Keys          string // of a type of correlation: the keys that only it takes
}

// Modifiers lists every modifier.
func Modifiers() []Described {
	return []Described{
		{Name: "contains", Meaning: "a part of the text"},
		{Name: "startswith", Meaning: "the beginning of the text"},
		{Name: "endswith", Meaning: "the end of the text"},
		{Name: "all", Meaning: "every value of the list, instead of any"},
		{Name: "cased", Meaning: "with regard to case"},
		{Name: "neq", Meaning: "not equal, of a list to none; absent counts as not equal"},
		{Name: "exists", Meaning: "`true`: the key is there, whatever its value; `false`: it is not"},
		{Name: "re", Meaning: "RE2 search in the text, with regard to case"},
		{Name: "i", Meaning: "after `re`: without regard to case"},
		{Name: "m", Meaning: "after `re`: `^` and `$` at lines"},
		{Name: "s", Meaning: "after `re`: a dot matches a line break"},
		{Name: "lt", Meaning: "less than a number; a text that is no number does not match"},
		{Name: "lte", Meaning: "less than a number, or equal"},
		{Name: "gt", Meaning: "greater than a number"},
		{Name: "gte", Meaning: "greater than a number, or equal"},
		{Name: "cidr", Meaning: "an address in a network of IPv4 or IPv6; a bare address is a network of one"},
		{Name: "windash", Meaning: "`-`, `/`, en dash, em dash and horizontal bar are the same at the start of a word"},
		{Name: "base64", Meaning: "the value in base64"},
		{Name: "base64offset", Meaning: "the value in base64 at any of the three offsets, with regard to case; goes with `contains`"},
		{Name: "utf16le", Meaning: "before `base64` or `base64offset`: encoded as UTF-16, little endian"},
		{Name: "wide", Meaning: "`utf16le`"},
		{Name: "utf16be", Meaning: "the same, big endian"},
		{Name: "utf16", Meaning: "`utf16le` with a byte order mark before it"},
		{Name: "minute", Meaning: "the minute of a time, in the zone in which it is written; with a number, or with `lt` ... `gte`"},
		{Name: "hour", Meaning: "its hour"},
		{Name: "day", Meaning: "its day of the month"},
		{Name: "week", Meaning: "its week of ISO 8601"},
		{Name: "month", Meaning: "its month"},
		{Name: "year", Meaning: "its year"},
		{Name: "fieldref", Meaning: "compares with another field of the record; goes with `contains`, `startswith`, `endswith`, `cased`, `neq` and `all`"},
		{Name: "expand", Meaning: "replaces `%name%` by the values that the configuration gives"},
	}
}

// CorrelationTypes lists every type; what they have in common is in corrKeys.
func CorrelationTypes() []Described {
	return []Described{
		{string(EventCount), "that many events within the timespan", ""},
		{string(ValueCount), "that many different values of `field`; of several fields: different combinations", "`field`"},
		{string(ValueSum), "the sum of `field` reaches the bound", "`field`"},
		{string(ValueAvg), "its mean does", "`field`"},
		{string(ValueMedian), "its median does", "`field`"},
		{string(ValuePercentile), "the percentile that `percentile` names does", "`field`, `percentile`"},
		{string(Temporal), "all of the rules matched within the timespan, or the boolean text in `condition` holds, or `gte: N` of them matched", ""},
		{string(TemporalOrdered), "the same, in the order of `rules`: those that a boolean text needs in order, those under `not` nowhere in the window", ""},
		{string(EventRatio), "extension: matches of the first rule over those of the second reach a percentage", "`condition` in percent, `min_denominator`"},
		{string(FirstSeen), "extension: a value of `field` is new for its group", "`field`, `lookback`, `learn`"},
		{string(Absence), "extension: an event of the first rule has none of the second before or after it", "`within`, `order: before\\|after`, `min_coverage`; `wait`, for `before`: how long after the event it is judged, for records that come late"},
		{string(RateAnomaly), "extension: the count departs from its own season; with `field`, that of different values in a quarter of an hour", "`threshold`, `direction: up\\|down\\|both`; `floor`: events that the window must have, `ratio`: times its season that they must be (`down`: at most); `field`"},
	}
}

// ExtensionKeys lists the keys of a document that only Keysentry knows.
func ExtensionKeys() []Described {
	return []Described{
		{Name: "risk", Meaning: "`{subject, score, family}`, evidence about whom: an event field, its weight, and `possession`, `place`, `volume`, `sequence` or `lifecycle`"},
		{Name: "severity", Meaning: "`page`, `ticket` or `digest`; by default critical is a page, high and medium are tickets"},
		{Name: "incident", Meaning: "the kind of incident that findings belong to; default `other`"},
		{Name: "cause", Meaning: "only events refused for these causes; on a correlation it narrows the rules it names"},
		{Name: "playbook", Meaning: "what can be run"},
		{Name: "summary", Meaning: "one sentence about it, without values"},
		{Name: "resolution", Meaning: "what a person should do"},
		{Name: "mode", Meaning: "`live`, or `shadow`: record, notify nobody"},
		{Name: "suppress", Meaning: "timespan of an episode of a single detection rule; default `1h`"},
		{Name: "refire", Meaning: "fire again each time this long has passed within an episode"},
		{Name: "needs", Meaning: "`{origins, fields, settings}`: without one of the origins, all of the fields and all of the settings (`declared_egress`, `change_windows`, `expected_cns`, `schedules`) the rule is blind"},
		{Name: "tests", Meaning: "see [Tests](#tests)"},
	}
}

// Decisions lists what is decided where the Sigma specification is silent.
func Decisions() []Described {
	return []Described{
		{Name: "absent, null, empty", Meaning: "`null` matches absent or JSON null; `''` a present empty text; `*` any present value; `exists` asks for the key"},
		{Name: "negation", Meaning: "`not (f: x)` and `f\\|neq: x` are true when f is absent"},
		{Name: "number and text", Meaning: "`4624` equals `4624` and `\"4624\"`; `lt` ... `gte` compare as numbers, what is no number is false"},
		{Name: "arrays", Meaning: "any member; the first value is the group, the counted or the measured one"},
		{Name: "keywords", Meaning: "are searched in every text of the record, at any depth, not in keys and not in numbers"},
		{Name: "windash", Meaning: "the dashes at the start of a word (nothing or no letter, digit or underscore before, one after), as a class, not expanded"},
		{Name: "base64offset", Meaning: "compares with regard to case, on bytes; plain `base64` without, unless `cased`"},
		{Name: "regular expressions", Meaning: "RE2, a search, with regard to case"},
		{Name: "folding of case", Meaning: "character by character, the same in stream and SQL"},
		{Name: "networks", Meaning: "IPv4 in the notation of IPv6 is IPv4; a network of IPv6 holds no IPv4 address"},
		{Name: "parts of a time", Meaning: "in the zone in which the time is written; numbers are seconds since 1970, from 100,000,000,000 on milliseconds"},
		{Name: "percentile", Meaning: "the extra key is required; nearest rank: the smallest value that so many percent do not exceed; texts are left out and counted"},
		{Name: "missing group-by key", Meaning: "absent or null: the event takes no part in that correlation; a metric counts it"},
		{Name: "window", Meaning: "slides, and includes both ends: `[t - timespan, t]`, on effective time"},
		{Name: "inner rules", Meaning: "rules that a correlation refers to say nothing by themselves unless it, or they, have `generate: true`"},
		{Name: "firing", Meaning: "an event that satisfies the condition opens an episode when the last such event of the group is more than a timespan back, and one finding fires; until then it is the same episode. Soon after an earlier episode (two timespans and the allowed lateness) a new one fires once the watermark has passed it"},
		{Name: "single rule", Meaning: "in the daemon it fires like `event_count` with `gte: 1`, grouped by network and `risk.subject`, timespan `suppress`; `rules eval` prints its matches"},
		{Name: "when it is judged", Meaning: "`gt` and `gte` on counts, and temporal types without `not`, on arrival. Sums, means, medians, percentiles and ratios in order of time, when the watermark passes. `lt lte eq neq`, a range and `not` at the end of a window that opens with the group's first event outside an earlier one and looks forward"},
		{Name: "temporal_ordered", Meaning: "distinct events, in order of time, then of topic, partition and offset; the earliest successor counts. A boolean condition: what it needs in order, what is under `not` nowhere in the window"},
		{Name: "late events", Meaning: "within timespan and allowed lateness they update the window and may fire; older ones match, take part in no correlation and are counted"},
		{Name: "order of arrival", Meaning: "within the allowed lateness it makes no difference"},
		{Name: "state", Meaning: "bounded in groups and bytes, what is dropped is counted. Figures are exact up to 4,096 values per group and window, beyond that the finding says `approximate`"},
	}
}
