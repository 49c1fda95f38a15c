package devstack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// The versions that the design was verified with.
const (
	kafkaVersion = "4.3.0"
	kafkaPOM     = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>keysentry</groupId>
  <artifactId>devstack</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>` + kafkaVersion + `</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
`
)

const kafkaInstead = "install a Java runtime (17 or later) and Maven, or use the fake Kafka, or give the address of a broker you have"

// ensureKafkaJars returns the folder with Apache Kafka's jars, fetching them
// through Maven when they are not in the cache. Maven checks the checksums.
func ensureKafkaJars(ctx context.Context, progress io.Writer) (string, error) {
	base, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, "kafka", kafkaVersion)
	err = fetchOnce(dir, func(tmp string) error { return fetchKafkaJars(ctx, tmp, orStderr(progress)) })
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "lib"), nil
}

func fetchKafkaJars(ctx context.Context, dir string, progress io.Writer) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return &UnavailableError{Part: "Apache Kafka", Missing: "Maven (`mvn`) is not on the PATH", Instead: kafkaInstead}
	}
	fmt.Fprintf(progress, "devstack: fetching Apache Kafka %s (44 MB, once)\n", kafkaVersion)
	pom := filepath.Join(dir, "pom.xml")
	if err := os.WriteFile(pom, []byte(kafkaPOM), 0o644); err != nil {
		return fmt.Errorf("fetch Apache Kafka: %w", err)
	}
	cmd := exec.CommandContext(ctx, mvn, "-q", "-B", "-f", pom, "dependency:copy-dependencies",
		"-DoutputDirectory="+filepath.Join(dir, "lib"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	stop := reportGrowth(dir, progress)
	err = cmd.Run()
	stop()
	if err != nil {
		return &UnavailableError{Part: "Apache Kafka", Missing: "Maven could not fetch it", Instead: kafkaInstead,
			Cause: fmt.Errorf("%w: %s", err, firstLine(out.String()))}
	}
	jars, err := filepath.Glob(filepath.Join(dir, "lib", "kafka_2.13-"+kafkaVersion+".jar"))
	if err != nil || len(jars) != 1 {
		return fmt.Errorf("fetch Apache Kafka: Maven left no kafka_2.13-%s.jar", kafkaVersion)
	}
	return nil
}

// findJava finds the Java runtime.
func findJava() (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		if java, err := exec.LookPath(filepath.Join(home, "bin", "java")); err == nil {
			return java, nil
		}
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return "", &UnavailableError{Part: "Apache Kafka", Missing: "Java (`java`) is not on the PATH", Instead: kafkaInstead}
	}
	return java, nil
}
