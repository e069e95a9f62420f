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

{{/* What the chart's own Secret holds, base64. Made once in a render: the Secret and the checksum show the same. */}}
{{- define "pbx.generated" -}}
{{- if not (hasKey .Values "__generated") }}
{{- $old := (lookup "v1" "Secret" .Release.Namespace (include "pbx.secret" .)) | default dict }}
{{- $data := $old.data | default dict }}
{{- $_ := set .Values "__generated" (dict
  "nonce-key" (index $data "nonce-key" | default (printf "%s%s" (randNumeric 32) (randNumeric 32) | sha256sum | b64enc))
  "grpc-key" (index $data "grpc-key" | default (randAlphaNum 48 | b64enc))
  "redis-password" (index $data "redis-password" | default (randAlphaNum 32 | b64enc))
  "api-token" (index $data "api-token" | default (randAlphaNum 40 | b64enc))) }}
{{- end }}
{{- toYaml .Values.__generated }}
{{- end }}

{{/* Where Redis is. No password: services get that in a variable of its own, where it may hold any character. */}}
{{- define "pbx.redisUrl" -}}
{{- if .Values.redis.enabled -}}
redis://{{ include "pbx.name" . }}-redis:6379/0
{{- else -}}
{{ required "redis.externalUrl (or redis.existingSecret) is needed where redis.enabled is false" .Values.redis.externalUrl }}
{{- end -}}
{{- end }}

{{/* Secret and key of the password of Redis, as JSON; empty: it stands in the URL. */}}
{{- define "pbx.redisPassword" -}}
{{- with .Values.redis.passwordSecret -}}
{{- if .name -}}{{ toJson (dict "name" .name "key" (.key | default "password")) }}{{- end -}}
{{- end -}}
{{- if and .Values.redis.enabled (not .Values.redis.existingSecret) (not .Values.redis.passwordSecret.name) -}}
{{ toJson (dict "name" (include "pbx.secret" .) "key" "redis-password") }}
{{- end -}}
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
{{- with include "pbx.redisPassword" .root }}
- name: PBX_REDIS_PASSWORD
  valueFrom:
    secretKeyRef: {{ . }}
{{- end }}
- name: PBX_DATA
  value: /data
- name: PBX_LOG_LEVEL
  value: {{ .root.Values.logLevel }}
- name: PBX_LOG_PII
  value: {{ .root.Values.logPii | default "mask" }}
{{- end }}

{{- define "pbx.databasePassword" -}}
{{- with .Values.database.passwordSecret }}
{{- if .name -}}
- name: DATABASE_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .name }}, key: {{ .key | default "password" }}}
{{- end }}
{{- end }}
{{- end }}

{{/* Variables by name with their values; those without a value (values of an earlier chart, reused) are left out. */}}
{{- define "pbx.numbers" -}}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}
- {name: {{ $name }}, value: {{ $value | int64 | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "pbx.digest" -}}
{{- with .Values.digest -}}
- {name: PBX_DIGEST_ALGORITHMS, value: {{ join "," .algorithms | quote }}}
- {name: PBX_DIGEST_QOP, value: {{ join "," .qop | quote }}}
{{- end }}
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

{{/* The data of a Secret as it is in the cluster; empty where helm cannot look (helm template, Argo CD). */}}
{{- define "pbx.seen" -}}
{{- if .name -}}{{- toJson ((lookup "v1" "Secret" .root.Release.Namespace .name) | default dict).data -}}{{- end -}}
{{- end }}

{{/* Pods that read a Secret start anew when its content has changed: the chart's own as rendered, yours as seen. */}}
{{- define "pbx.secretsDigest" -}}
{{- $seen := list .Values.redis.enabled .Values.redis.externalUrl .Values.database }}
{{- if not .Values.existingSecret }}{{ $seen = append $seen (include "pbx.generated" .) }}{{ end }}
{{- $names := list .Values.existingSecret .Values.redis.existingSecret .Values.redis.passwordSecret.name
  .Values.database.existingSecret .Values.database.passwordSecret.name .Values.events.cdrHttp.tokenSecret }}
{{- range compact $names }}
{{- $seen = append $seen (include "pbx.seen" (dict "root" $ "name" .)) }}
{{- end }}
{{- toJson $seen | sha256sum }}
{{- end }}

{{- define "pbx.checksum" -}}
checksum/secrets: {{ include "pbx.secretsDigest" . }}
{{- end }}

{{- /* Where a port is served: on every IPv4 address, and on every IPv6 address where that is wanted. */}}
{{- define "pbx.listen" -}}
{{- $s := index . 0 }}{{- $port := index . 1 | int -}}
0.0.0.0:{{ $port }}{{ if $s.ipv6 }},[::]:{{ $port }}{{ end }}
{{- end }}

{{/* A pod that holds its volume and does nothing: databases are restored meanwhile. */}}
{{- define "pbx.maintenance" -}}
command: [python, -c, "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); signal.pause()"]
{{- end }}
