{{- define "pbx.name" -}}
{{- printf "%s" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "pbx.labels" -}}
app.kubernetes.io/name: sip-pbx
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "pbx.selector" -}}
app.kubernetes.io/name: sip-pbx
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "pbx.image" -}}
{{- printf "%s-%s:%s" .root.Values.image.repository .component (.root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- end }}

{{- define "pbx.secret" -}}
{{- .Values.existingSecret | default (printf "%s-secrets" (include "pbx.name" .)) -}}
{{- end }}

{{- define "pbx.redisSecret" -}}
{{- .Values.redis.existingSecret | default (printf "%s-redis-url" (include "pbx.name" .)) -}}
{{- end }}

{{- define "pbx.databaseSecret" -}}
{{- .Values.database.existingSecret | default (printf "%s-database" (include "pbx.name" .)) -}}
{{- end }}

{{/* Whether a service has a database of its own; .key is registrarUrl or eventsUrl. */}}
{{- define "pbx.hasDatabase" -}}
{{- if or .root.Values.database.existingSecret (index .root.Values.database .key) -}}true{{- end -}}
{{- end }}

{{- define "pbx.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "pbx.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities: {drop: [ALL]}
{{- end }}

{{/* What every pod template shares. */}}
{{- define "pbx.podBase" -}}
{{- $values := .values -}}
enableServiceLinks: false
securityContext:
  {{- include "pbx.podSecurity" . | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "pbx.selector" . | nindent 8 }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "pbx.selector" . | nindent 8 }}
{{- end }}

{{/* Environment of every service. */}}
{{- define "pbx.env" -}}
- name: PBX_REDIS_URL
  valueFrom:
    secretKeyRef: {name: {{ include "pbx.redisSecret" .root }}, key: url}
- name: PBX_DATA
  value: /data
- name: PBX_LOG_LEVEL
  value: {{ .root.Values.logLevel }}
{{- end }}

{{- define "pbx.nonceKey" -}}
- name: PBX_NONCE_KEY
  valueFrom:
    secretKeyRef: {name: {{ include "pbx.secret" . }}, key: nonce-key}
{{- end }}

{{- /* The key with which services prove themselves to each other. Mounted: a changed one is followed without a restart. */}}
{{- define "pbx.grpcKey" -}}
- {name: PBX_GRPC_KEY_FILE, value: /etc/pbx/grpc/key}
{{- end }}

{{- define "pbx.grpcKeyMount" -}}
- {name: grpc-key, mountPath: /etc/pbx/grpc, readOnly: true}
{{- end }}

{{- define "pbx.grpcKeyVolume" -}}
- name: grpc-key
  secret:
    secretName: {{ include "pbx.secret" . }}
    defaultMode: 0440
    items: [{key: grpc-key, path: key}]
{{- end }}

{{- define "pbx.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  failureThreshold: 6
  timeoutSeconds: 3
{{- end }}

{{/* A changed secret or a changed template of one restarts the pods that read it. */}}
{{- define "pbx.checksum" -}}
checksum/config: {{ toJson (dict "redis" .Values.redis "database" .Values.database "secret" .Values.existingSecret) | sha256sum }}
{{- end }}

{{- /* Where a port is served: on every IPv4 address, and on every IPv6 address where that is wanted. */}}
{{- define "pbx.listen" -}}
{{- $s := index . 0 }}{{- $port := index . 1 | int -}}
0.0.0.0:{{ $port }}{{ if $s.ipv6 }},[::]:{{ $port }}{{ end }}
{{- end }}
