// Package devstack starts the servers that Keysentry talks to, for people who
// look around (keysentry dev up, demos) and for tests: a ClickHouse server, a
// fake Kafka inside the process, and an Apache Kafka on the Java of the machine.
//
// What it promises:
//   - Start functions return when the server answers, or with an error that
//     carries the last lines the server wrote.
//   - A server keeps its data in the folder it was given and finds it again
//     when it is started on that folder later, on the same port when asked.
//   - A server ends with the process that started it, also when that process
//     is killed and can run no code. Each server process holds the reading end
//     of a pipe whose writing end only the starter has; the kernel closes it.
//   - What has to be downloaded comes through the machine's own npm and Maven,
//     is checked, and is kept in the user's cache folder. A part that cannot be
//     had is an error for which errors.Is(err, ErrUnavailable) holds and whose
//     text says what is missing and what to do instead.
//
// The server processes are this same program started again, so a program that
// uses the package calls MaybeRunChild before anything else in main (or in
// TestMain). Whoever starts a server stops it: Stop waits until it is gone.
//
// All servers listen on 127.0.0.1 only and are not hardened; production is an
// ordinary ClickHouse and an ordinary Kafka.
package devstack
