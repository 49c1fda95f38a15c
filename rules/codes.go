package rules

// Code is the stable identity of a kind of diagnostic. A code is never used
// again for another meaning.
type Code string

// The codes. CodeTable says what each means and is the source of the reference
// page.
const (
	CodeYAML            Code = "KS101"
	CodeDuplicateKey    Code = "KS102"
	CodeKind            Code = "KS103"
	CodeMissingKey      Code = "KS104"
	CodeBadValue        Code = "KS105"
	CodeDuplicateID     Code = "KS106"
	CodeDuplicateName   Code = "KS107"
	CodeLegacyAction    Code = "KS110"
	CodeLegacyPipe      Code = "KS111"
	CodeLegacyTimeframe Code = "KS112"

	CodeDetectionShape Code = "KS201"
	CodeModifier       Code = "KS202"
	CodeModifierMix    Code = "KS203"
	CodeModifierValue  Code = "KS204"
	CodeRegex          Code = "KS205"
	CodePlaceholder    Code = "KS206"
	CodeField          Code = "KS207"
	CodeEmptyList      Code = "KS208"

	CodeCondition  Code = "KS301"
	CodeIdentifier Code = "KS302"
	CodeSelector   Code = "KS303"

	CodeCorrelation      Code = "KS401"
	CodeReference        Code = "KS402"
	CodeCycle            Code = "KS403"
	CodeTimespan         Code = "KS404"
	CodeCorrelationBound Code = "KS405"
	CodeAlias            Code = "KS406"
	CodeFilter           Code = "KS410"

	CodeExtensionValue Code = "KS501"

	CodeAllSingle     Code = "KS601"
	CodeUnused        Code = "KS602"
	CodeFilterNoNot   Code = "KS603"
	CodeNotPortable   Code = "KS604"
	CodeNoID          Code = "KS605"
	CodeStyle         Code = "KS606"
	CodeOffsetAlone   Code = "KS607"
	CodeHostBits      Code = "KS608"
	CodeNeverMatches  Code = "KS609"
	CodeNoTests       Code = "KS610"
	CodeEscapedDollar Code = "KS611"
	CodeDisabled      Code = "KS612"
	CodeAliasDoubt    Code = "KS613"

	CodeSQLTimePart Code = "KS701"
	CodeSQLText     Code = "KS702"
)

// CodeInfo explains a code.
type CodeInfo struct {
	Code     Code
	Severity Severity
	Meaning  string
}

// CodeTable lists every code, in order.
func CodeTable() []CodeInfo {
	return []CodeInfo{
		{CodeYAML, Error, "the document is not valid YAML, or is not a mapping"},
		{CodeDuplicateKey, Error, "a key is given twice in one mapping"},
		{CodeKind, Error, "the document has none, or more than one, of `detection`, `correlation` and `filter`"},
		{CodeMissingKey, Error, "a required key is missing or empty"},
		{CodeBadValue, Error, "a value of a standard key has the wrong type or is not in its list"},
		{CodeDuplicateID, Error, "another document has the same `id`"},
		{CodeDuplicateName, Error, "another document has the same `name`"},
		{CodeLegacyAction, Error, "`action:` collections of old Sigma are not supported"},
		{CodeLegacyPipe, Error, "an aggregation after a pipe in a condition: write a correlation"},
		{CodeLegacyTimeframe, Error, "`timeframe` in a detection: write a correlation with a `timespan`"},
		{CodeDetectionShape, Error, "a search identifier is neither a mapping, nor a list, nor a keyword"},
		{CodeModifier, Error, "an unknown modifier"},
		{CodeModifierMix, Error, "modifiers that cannot be used together, or not in this order"},
		{CodeModifierValue, Error, "a value that the modifier cannot take"},
		{CodeRegex, Error, "a regular expression that RE2 does not accept"},
		{CodePlaceholder, Error, "a placeholder without values"},
		{CodeField, Error, "a field that the record layout does not have"},
		{CodeEmptyList, Error, "a field or identifier without values"},
		{CodeCondition, Error, "a condition that does not parse"},
		{CodeIdentifier, Error, "a condition names an identifier that the detection does not have"},
		{CodeSelector, Error, "a selector that matches no identifier"},
		{CodeCorrelation, Error, "a correlation key that is unknown, missing or does not belong to the type"},
		{CodeReference, Error, "a reference to a rule that is not loaded"},
		{CodeCycle, Error, "correlations that refer to each other in a circle"},
		{CodeTimespan, Error, "a timespan that is not a number and one of s, m, h, d, w"},
		{CodeCorrelationBound, Error, "a correlation condition that cannot be read or cannot hold"},
		{CodeAlias, Error, "an alias that cannot be read or names a rule that is not among the rules"},
		{CodeFilter, Error, "a filter that cannot be applied"},
		{CodeExtensionValue, Error, "a value of an extension key that is not allowed"},
		{CodeAllSingle, Warning, "`all` on a single value has no effect"},
		{CodeUnused, Warning, "a search identifier that no condition uses"},
		{CodeFilterNoNot, Warning, "a filter whose condition negates nothing: it narrows rules to what it selects"},
		{CodeNotPortable, Note, "an extension that other Sigma tools do not know"},
		{CodeNoID, Note, "the document has no `id`"},
		{CodeStyle, Warning, "a standard key is written in a way that the specification advises against"},
		{CodeOffsetAlone, Warning, "`base64offset` without `contains` compares with the whole value"},
		{CodeHostBits, Warning, "a network with bits set beyond its prefix; they are ignored"},
		{CodeNeverMatches, Warning, "the rule's log source is not one that the records have"},
		{CodeNoTests, Note, "the rule has no tests"},
		{CodeEscapedDollar, Warning, "a value contains %name% but the modifier `expand` is missing"},
		{CodeDisabled, Warning, "the correlation is left out, because it needs a rule that the configuration disables"},
		{CodeAliasDoubt, Warning, "an alias that nothing uses, or that leaves a rule out, whose field must then have the alias's own name"},
		{CodeSQLTimePart, Error, "in SQL, a part of a time is asked of a field that is not a time"},
		{CodeSQLText, Error, "in SQL, a text that is not UTF-8"},
	}
}

// severityOf is the severity that the table gives a code.
func severityOf(c Code) Severity {
	for _, i := range CodeTable() {
		if i.Code == c {
			return i.Severity
		}
	}
	return Error
}
