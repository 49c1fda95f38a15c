package event

// Standing is where one partition stands when windows are filled after a restart.
type Standing struct {
	Partition Partition
	// Below is the offset below which events are taken from what is stored; those
	// from there on are read from Kafka. From is the time of the record there, at
	// or after that of everything below.
	Below int64
	From  Instant
	// End is the time of the last record that detection has seen, Next that of the
	// first one that it has not; zero: there is none.
	End, Next Instant
}
