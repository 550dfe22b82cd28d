{{- define "svc-mqtt.selector" -}}
app.kubernetes.io/name: svc-mqtt
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "svc-mqtt.labels" -}}
{{ include "svc-mqtt.selector" . }}
app.kubernetes.io/part-of: svc-mqtt
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* The names of the ports that devices come to. */}}
{{- define "svc-mqtt.mqttPorts" -}}
{{- if or .Values.tls.plain (not .Values.tls.enabled) }}mqtt {{ end }}
{{- if .Values.tls.enabled }}mqtts{{ end }}
{{- end }}

{{- /* What the schema cannot say: values that need each other. */}}
{{- define "svc-mqtt.check" -}}
{{- $v := .Values }}
{{- if and $v.ingress.enabled (not $v.ingress.host) }}{{ fail "ingress.host is empty: set the host name of the API, such as mqtt.example.com" }}{{ end }}
{{- if and $v.tls.clusterIssuer (not $v.tls.hosts) }}{{ fail "tls.hosts is empty: name the hosts that tls.clusterIssuer is to certify" }}{{ end }}
{{- if and $v.tls.clusterIssuer (not $v.tls.enabled) }}{{ fail "tls.clusterIssuer is set, and tls.enabled is false: set tls.enabled=true" }}{{ end }}
{{- if and $v.tls.clientCaSecret (not $v.tls.enabled) }}{{ fail "tls.clientCaSecret is set, and tls.enabled is false: devices show certificates over TLS only" }}{{ end }}
{{- if and $v.serviceMonitor.enabled (not $v.serviceMonitor.secret) }}{{ fail "serviceMonitor.secret is empty: /metrics wants a key. Make one with `svc-mqtt api-key create --name prometheus --role viewer` and put it into a Secret" }}{{ end }}
{{- if gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas) }}{{ fail "autoscaling.minReplicas is over autoscaling.maxReplicas" }}{{ end }}
{{- if and $v.nats.passwordKey (not $v.nats.userKey) }}{{ fail "nats.passwordKey is set, and nats.userKey is empty: set both, or neither" }}{{ end }}
{{- $own := dict
  "DATABASE_URL" "database.secret" "DATABASE_DSN" "database.secret" "NATS_URL" "nats.secret" "NATS_USER" "nats.userKey"
  "NATS_PASSWORD" "nats.passwordKey" "NATS_CREDS_FILE" "nats.credsKey" "NATS_TLS_CA" "nats.caKey" "NATS_MONITOR_URL" "nats.monitorUrl"
  "API_TOKEN" "api.secret" "TLS_CERT" "tls.secret" "TLS_KEY" "tls.secret" "MQTT_TCP" "tls.plain" "MQTT_CLIENT_CA" "tls.clientCaSecret"
  "PROXY_PROTOCOL_FROM" "proxyProtocolFrom" "SHUTDOWN_TIMEOUT_SEC" "shutdownTimeoutSec" "WORKERS" "replicas" }}
{{- range $name, $value := $v.env }}
{{- with get $own $name }}{{ fail (printf "env.%s: set %s instead" $name .) }}{{ end }}
{{- if regexMatch "(_TOKEN|_KEY|_PASSWORD|_SECRET)$" $name }}{{ fail (printf "env.%s: values are no place for a secret" $name) }}{{ end }}
{{- if has $name (list "MQTT_PORT" "MQTTS_PORT" "WS_PORT" "WSS_PORT" "LISTEN_ADDR" "HTTP_TLS_CERT" "DATA_DIR") }}{{ fail (printf "env.%s: the chart has fixed ports and paths; use the manifests in deploy/ to change them" $name) }}{{ end }}
{{- end }}
{{- end }}
