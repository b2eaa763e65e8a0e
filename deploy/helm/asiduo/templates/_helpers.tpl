{{- define "asiduo.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "asiduo.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "asiduo.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "asiduo.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "asiduo.selector" -}}
app.kubernetes.io/name: {{ include "asiduo.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "asiduo.labels" -}}
{{ include "asiduo.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "asiduo.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default (.Chart.AppVersion | replace "+" "_") .Values.image.tag }}
{{- end -}}
{{- end }}

{{- /* The listener of customers: on the pod's loopback, or with api.enabled for who shows a token or a certificate. Each pod tells
others under which name it is found. */ -}}
{{- define "asiduo.api" -}}
{{- $access := dict -}}
{{- with .Values.api.tokensSecret }}{{ $_ := set $access "tokens_file" "/etc/asiduo-api-tokens/tokens" }}{{ end -}}
{{- with .Values.api.tls -}}
{{- if .secret }}{{ $_ := set $access "cert_file" "/etc/asiduo-api-tls/tls.crt" }}{{ $_ := set $access "key_file" "/etc/asiduo-api-tls/tls.key" }}{{ end -}}
{{- if .clientCertificates }}{{ $_ := set $access "client_ca_file" "/etc/asiduo-api-tls/ca.crt" }}{{ end -}}
{{- end -}}
{{- $scheme := ternary "https" "http" (ne .Values.api.tls.secret "") -}}
{{- $name := printf "${POD_NAME}.%s.%s.svc" (include "asiduo.fullname" .) .Release.Namespace -}}
{{- toYaml (dict "listen" (printf ":%d" (int .Values.api.port)) "advertise" (printf "%s://%s:%d" $scheme $name (int .Values.api.port)) "access" $access) -}}
{{- end }}

{{- /* What asiduo.yaml says. Commands stay on the pod's loopback, as does the API unless it is enabled: kubectl port-forward and
kubectl exec reach them, others do not. Probes and Prometheus reach the monitor, which shows no customer. */ -}}
{{- define "asiduo.config" -}}
{{- $state := merge (dict "dir" "/var/lib/asiduo") (default dict .Values.config.state) -}}
{{- $set := dict "state" $state
  "api" (ternary (include "asiduo.api" . | fromYaml) (dict "listen" "127.0.0.1:8080") .Values.api.enabled) "admin" (dict "listen" "127.0.0.1:9100")
  "monitor" (dict "listen" (printf ":%d" (int .Values.probes.port))) -}}
{{- if .Values.archive.enabled -}}
{{- $_ := set $set "archive" (merge (dict "dir" "/var/lib/asiduo-archive") (default dict .Values.config.archive)) -}}
{{- end -}}
{{- toYaml (merge $set (deepCopy .Values.config)) -}}
{{- end }}

{{- /* What containers of the pod have in common. */ -}}
{{- define "asiduo.container" -}}
image: {{ include "asiduo.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  privileged: false
  capabilities: {drop: [ALL]}
env:
  - {name: GOMEMLIMIT, value: {{ .Values.goMemLimit }}}
  {{- if .Values.api.enabled }}
  - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  {{- end }}
  {{- with .Values.env }}{{ toYaml . | nindent 2 }}{{ end }}
resources: {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - {name: config, mountPath: /etc/asiduo, readOnly: true}
  - {name: state, mountPath: /var/lib/asiduo}
  {{- if .Values.archive.enabled }}
  - {name: archive, mountPath: /var/lib/asiduo-archive}
  {{- end }}
  {{- if and .Values.api.enabled .Values.api.tokensSecret }}
  - {name: api-tokens, mountPath: /etc/asiduo-api-tokens, readOnly: true}
  {{- end }}
  {{- if and .Values.api.enabled .Values.api.tls.secret }}
  - {name: api-tls, mountPath: /etc/asiduo-api-tls, readOnly: true}
  {{- end }}
  {{- with .Values.extra.mounts }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
