package devstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApacheOptions says how to start an Apache Kafka. The zero value is a broker
// on free ports whose data is gone when it stops.
type ApacheOptions struct {
	Dir      string    // the data folder; empty: a temporary one, removed by Stop
	Port     int       // the plain listener; 0: a free port
	Topics   []Topic   // created unless they exist
	Log      io.Writer // what the broker writes; nil: kept only for errors
	Progress io.Writer // what a download says; nil: standard error
	// Advertise is the host:port that clients of the plain listener are told to
	// come to; empty: its own. A proxy that leads to it must listen there.
	Advertise string
	// Listeners are open beside the plain one.
	Listeners []Listener
	// Properties are added to server.properties, over ours.
	Properties map[string]string
}

// ApacheKafka is a broker and controller in one Java process. Stop or Kill it.
type ApacheKafka struct {
	proc  *process
	dir   string
	temp  bool
	ports brokerPorts
}

// brokerPorts are the ports of one start.
type brokerPorts struct {
	plain, controller int
	extra             []int // one for each of ApacheOptions.Listeners
}

// StartApacheKafka starts a broker on the machine's Java, with jars that Maven
// fetches when they are not in the cache, and returns when it answers and its
// topics exist. It keeps running after ctx ends; Stop ends it.
func StartApacheKafka(ctx context.Context, o ApacheOptions) (*ApacheKafka, error) {
	java, err := findJava()
	if err != nil {
		return nil, err
	}
	lib, err := ensureKafkaJars(ctx, o.Progress)
	if err != nil {
		return nil, err
	}
	k := &ApacheKafka{dir: o.Dir}
	if o.Dir == "" {
		if k.dir, err = os.MkdirTemp("", "keysentry-kafka-"); err != nil {
			return nil, fmt.Errorf("make a data folder: %w", err)
		}
		k.temp = true
	}
	if k.dir, err = filepath.Abs(k.dir); err != nil {
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	run := javaRun{java: java, classPath: filepath.Join(lib, "*")}
	for try := 1; ; try++ {
		err = k.start(ctx, o, run)
		if err == nil || o.Port != 0 || try == startTries || !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		k.removeTemp()
		return nil, err
	}
	for _, t := range o.Topics {
		if err := CreateTopic(ctx, k.Addr(), t); err != nil {
			k.Kill()
			k.removeTemp()
			return nil, err
		}
	}
	return k, nil
}

// javaRun is how Java is started.
type javaRun struct{ java, classPath string }

// start tries once.
func (k *ApacheKafka) start(ctx context.Context, o ApacheOptions, run javaRun) error {
	if err := k.choosePorts(o); err != nil {
		return err
	}
	props, err := k.writeProperties(o)
	if err != nil {
		return err
	}
	if err := k.format(ctx, o, run, props); err != nil {
		return err
	}
	args := []string{run.java,
		"-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=4",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", run.classPath, "kafka.Kafka", props}
	k.proc, err = startProcess(ctx, childGuard, args, o.Log)
	if err != nil {
		return fmt.Errorf("start Apache Kafka: %w", err)
	}
	if err := k.awaitReady(ctx); err != nil {
		k.proc.kill()
		return err
	}
	return nil
}

func (k *ApacheKafka) choosePorts(o ApacheOptions) error {
	given := []int{o.Port, 0}
	for _, l := range o.Listeners {
		given = append(given, l.Port)
	}
	for _, p := range given {
		if p == 0 {
			continue
		}
		if err := waitPortFree(p, 5*time.Second); err != nil {
			return fmt.Errorf("start Apache Kafka: %w", err)
		}
	}
	ports, err := choosePorts(given...)
	if err != nil {
		return err
	}
	k.ports = brokerPorts{plain: ports[0], controller: ports[1], extra: ports[2:]}
	return nil
}

// logDir is where the broker keeps its records.
func (k *ApacheKafka) logDir() string { return filepath.Join(k.dir, "data") }

// format prepares the storage of a new data folder. The cluster's id is the
// broker's name, by which awaitReady knows it from another one.
func (k *ApacheKafka) format(ctx context.Context, o ApacheOptions, run javaRun, props string) error {
	if _, err := os.Stat(filepath.Join(k.logDir(), "meta.properties")); err == nil {
		return nil
	}
	args := []string{"-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-cp", run.classPath, "kafka.tools.StorageTool", "format", "-t", newClusterID(), "-c", props}
	args = append(args, scramArgs(o.Listeners)...)
	cmd := exec.CommandContext(ctx, run.java, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("format Apache Kafka's storage: %w: %s", err, out.String())
	}
	return nil
}

// awaitReady waits until the broker of this data folder answers with itself as
// a broker, for another may have got the port instead, and listens everywhere: it
// opens one listener after the other.
func (k *ApacheKafka) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	want, err := readClusterID(k.logDir())
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr()), kgo.RetryTimeout(time.Second), kgo.DialTimeout(time.Second))
	if err != nil {
		return fmt.Errorf("wait for Apache Kafka: %w", err)
	}
	defer cl.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if clusterID(ctx, cl) == want && listening(ctx, k.ports.extra) {
			return nil
		}
		select {
		case <-k.proc.done:
			err := errors.New("the broker ended before it was ready")
			if portClash(k.proc.tail.String()) {
				err = errPortTaken
			}
			return k.proc.describe("start Apache Kafka", err)
		case <-ctx.Done():
			return k.proc.describe("wait for Apache Kafka", ctx.Err())
		case <-tick.C:
		}
	}
}

// clusterID asks a broker for its cluster's id; empty when it does not answer
// or does not know a broker yet.
func clusterID(ctx context.Context, cl *kgo.Client) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil || resp.ClusterID == nil || len(resp.Brokers) == 0 {
		return ""
	}
	return *resp.ClusterID
}

// listening reports whether every port takes connections.
func listening(ctx context.Context, ports []int) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, port := range ports {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", hostPort(port))
		if err != nil {
			return false
		}
		_ = conn.Close()
	}
	return true
}

// Addr is the plain listener's host:port.
func (k *ApacheKafka) Addr() string { return hostPort(k.ports.plain) }

// Port, given to the next start, keeps the address.
func (k *ApacheKafka) Port() int { return k.ports.plain }

// ListenerAddr is the host:port of the i-th of ApacheOptions.Listeners.
func (k *ApacheKafka) ListenerAddr(i int) string { return hostPort(k.ports.extra[i]) }

// Pid is the process id of the Java process.
func (k *ApacheKafka) Pid() int { return k.proc.pid }

// Done is closed when the broker is gone, for whatever reason.
func (k *ApacheKafka) Done() <-chan struct{} { return k.proc.done }

// Stop stops the broker cleanly and waits until it is gone; when ctx ends
// first it is killed and ctx's error returned. A second Stop does nothing.
func (k *ApacheKafka) Stop(ctx context.Context) error {
	err := k.proc.stop(ctx)
	k.removeTemp()
	return err
}

// Kill ends the broker as kill -9 does and waits until it is gone. The data
// folder stays, a temporary one too until Stop.
func (k *ApacheKafka) Kill() { k.proc.kill() }

func (k *ApacheKafka) removeTemp() {
	if k.temp {
		_ = os.RemoveAll(k.dir)
	}
}
