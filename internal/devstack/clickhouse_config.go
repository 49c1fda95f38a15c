package devstack

import (
	"encoding/xml"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// The server's configuration. The element names are ClickHouse's; path, ports
// and listen_host are for the binary, libchdb takes them as arguments too.
//
// Nothing here makes the server faster or slower than an ordinary one: the
// caches are only bounded, so that a laptop or a CI machine with several of
// them keeps its memory, and the server's own log tables are off (they are not
// configured), as they would write beside every measurement.
var serverConfig = template.Must(template.New("config").Funcs(template.FuncMap{"x": xmlText}).Parse(`<clickhouse>
  <display_name>{{x .Name}}</display_name>
  <path>{{x .Dir}}/</path>
  <tmp_path>{{x .Dir}}/tmp/</tmp_path>
  <user_files_path>{{x .Dir}}/user_files/</user_files_path>
  <format_schema_path>{{x .Dir}}/format_schemas/</format_schema_path>
  <tcp_port>{{.TCPPort}}</tcp_port>
  <http_port>{{.HTTPPort}}</http_port>
  <listen_host>127.0.0.1</listen_host>
  <users_config>{{x .UsersFile}}</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <mark_cache_size>268435456</mark_cache_size>
  <uncompressed_cache_size>0</uncompressed_cache_size>
  <max_concurrent_queries>200</max_concurrent_queries>
  <shutdown_wait_unfinished>1</shutdown_wait_unfinished>
  <remote_servers replace="true">
{{- range $name, $shards := .Clusters}}
    <{{$name}}>
{{- range $shards}}
      <shard><internal_replication>true</internal_replication><replica><host>{{x .Host}}</host><port>{{x .Port}}</port></replica></shard>
{{- end}}
    </{{$name}}>
{{- end}}
  </remote_servers>
</clickhouse>
`))

var usersConfig = template.Must(template.New("users").Funcs(template.FuncMap{"x": xmlText}).Parse(`<clickhouse>
  <profiles>
    <default></default>
    <readonly><readonly>2</readonly></readonly>
{{- range $user := .}}{{if .Settings}}
    <of_{{.Name}}>
{{- range .Settings}}
      <{{index . 0}}>{{x (index . 1)}}</{{index . 0}}>
{{- end}}
    </of_{{.Name}}>
{{- end}}{{end}}
  </profiles>
  <quotas><default></default></quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip><ip>::1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <access_management>0</access_management>
    </default>
{{- range .}}
    <{{.Name}}>
{{- if .PasswordSHA256}}
      <password_sha256_hex>{{x .PasswordSHA256}}</password_sha256_hex>
{{- else}}
      <password></password>
{{- end}}
      <networks><ip>127.0.0.1</ip><ip>::1</ip></networks>
      <profile>{{if .Settings}}of_{{.Name}}{{else if .ReadOnly}}readonly{{else}}default{{end}}</profile>
      <quota>default</quota>
{{- if .Grants}}
      <grants>
{{- range .Grants}}
        <query>{{x .}}</query>
{{- end}}
      </grants>
{{- end}}
    </{{.Name}}>
{{- end}}
  </users>
</clickhouse>
`))

type endpoint struct{ Host, Port string }

// writeClickHouseConfig writes both files into the data folder's keysentry
// subfolder and returns the path of the server's.
func writeClickHouseConfig(c *ClickHouse, o ClickHouseOptions, name string) (string, error) {
	for _, u := range o.Users {
		if !elementName(u.Name) || u.Name == "default" {
			return "", fmt.Errorf("ClickHouse user %q: a name is letters, digits and underscores, and not \"default\"", u.Name)
		}
	}
	clusters := map[string][]endpoint{}
	for cluster, addrs := range o.RemoteServers {
		if !elementName(cluster) {
			return "", fmt.Errorf("ClickHouse cluster %q: a name is letters, digits and underscores", cluster)
		}
		for _, addr := range addrs {
			host, port, err := net.SplitHostPort(addr)
			if err != nil {
				return "", fmt.Errorf("ClickHouse cluster %s: %w", cluster, err)
			}
			clusters[cluster] = append(clusters[cluster], endpoint{host, port})
		}
	}
	dir := filepath.Join(c.dir, "keysentry")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the data folder: %w", err)
	}
	usersFile := filepath.Join(dir, "users.xml")
	if err := writeTemplate(usersFile, usersConfig, o.Users); err != nil {
		return "", err
	}
	conf := filepath.Join(dir, "config.xml")
	return conf, writeTemplate(conf, serverConfig, map[string]any{
		"Name": name, "Dir": c.dir, "TCPPort": c.tcpPort, "HTTPPort": c.httpPort,
		"UsersFile": usersFile, "Clusters": clusters,
	})
}

func writeTemplate(path string, t *template.Template, data any) error {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// xmlText escapes s for XML.
func xmlText(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}

// elementName reports whether s can be an XML element, as ClickHouse's files
// want user and cluster names to be.
func elementName(s string) bool {
	for i, r := range s {
		letter := r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}
