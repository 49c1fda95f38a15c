package ingest

// Reason says why a record is in quarantine. The list is closed.
type Reason string

// The reasons.
const (
	ReasonEmpty          Reason = "empty"            // null or empty value
	ReasonTooLarge       Reason = "too_large"        // value above the limit
	ReasonBadUTF8        Reason = "bad_utf8"         //
	ReasonBadJSON        Reason = "bad_json"         // syntax, truncated, trailing data
	ReasonTooDeep        Reason = "too_deep"         // nesting above the limit
	ReasonNotObject      Reason = "not_object"       // valid JSON, but no object
	ReasonDuplicateField Reason = "duplicate_field"  //
	ReasonMissingField   Reason = "missing_field"    // required for the type
	ReasonUnknownType    Reason = "unknown_type"     //
	ReasonWrongType      Reason = "wrong_type"       // a number where text is wanted, ...
	ReasonBadValue       Reason = "bad_value"        // right JSON type, impossible value
	ReasonBadTime        Reason = "bad_time"         // unparsable or outside 2000..2100
	ReasonClock          Reason = "observed_at"      // append time before 2000 or ahead of the reader
	ReasonNotAllowedHere Reason = "not_allowed_here" // type, network, service or host not allowed on this topic
	ReasonUnreadable     Reason = "unreadable_batch" // CRC, compression bomb, unknown codec
	ReasonNotMapped      Reason = "not_mapped"       // the mapping of the topic has no case for it
	ReasonUnknownFormat  Reason = "unknown_format"   // mapping auto: no mapping recognises it, or several do
	ReasonBadCloudEvent  Reason = "bad_cloudevent"   // an envelope that breaks the specification, or that nobody here can open
)

// MaxExcerpt bounds Reject.Excerpt, in bytes.
const MaxExcerpt = 512
