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
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "asiduo.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{- /* What asiduo.yaml says. API and commands stay on the pod's loopback: kubectl port-forward and kubectl exec reach
them, others do not. Probes and Prometheus reach the monitor, which shows no customer. */ -}}
{{- define "asiduo.config" -}}
{{- $state := merge (dict "dir" "/var/lib/asiduo") (default dict .Values.config.state) -}}
{{- $set := dict "state" $state
  "api" (dict "listen" "127.0.0.1:8080") "admin" (dict "listen" "127.0.0.1:9100")
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
  {{- with .Values.env }}{{ toYaml . | nindent 2 }}{{ end }}
resources: {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - {name: config, mountPath: /etc/asiduo, readOnly: true}
  - {name: state, mountPath: /var/lib/asiduo}
  {{- if .Values.archive.enabled }}
  - {name: archive, mountPath: /var/lib/asiduo-archive}
  {{- end }}
  {{- with .Values.extra.mounts }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
