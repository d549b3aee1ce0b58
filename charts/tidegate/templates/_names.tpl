{{/* The beginning of every name. */}}
{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "tidegate" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-tidegate" (.Release.Name | trunc 31 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.operator" -}}{{ include "tidegate.fullname" . }}-operator{{- end -}}
{{- define "tidegate.broker" -}}{{ include "tidegate.fullname" . }}-broker{{- end -}}

{{/* Labels of everything. */}}
{{- define "tidegate.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_")
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "tidegate" -}}
{{- merge $own .Values.commonLabels | toYaml -}}
{{- end -}}

{{/* By which pods of a part are known: (dict "root" $ "part" "operator"). */}}
{{- define "tidegate.selector" -}}
app.kubernetes.io/name: tidegate-{{ .part }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{/* Labels of what a selector finds: (dict "root" $ "part" "operator"). */}}
{{- define "tidegate.partLabels" -}}
app.kubernetes.io/name: tidegate-{{ .part }}
{{ include "tidegate.labels" .root }}
{{- end -}}

{{- define "tidegate.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether a RabbitMQ comes with the release; fails where there would be none at all. */}}
{{- define "tidegate.embedded" -}}
{{- if .Values.broker.secretRef.name -}}
{{- else if .Values.broker.embedded.enabled -}}true
{{- else -}}
{{- fail "there is no broker: name the Secret of yours in broker.secretRef.name, or set broker.embedded.enabled" -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.brokerSecret" -}}
{{ .Values.broker.secretRef.name | default (include "tidegate.broker" .) }}
{{- end -}}

{{/* What the restricted Pod Security Standard asks of a container. */}}
{{- define "tidegate.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end -}}

{{- define "tidegate.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Where pods go: (dict "of" .Values.operator). */}}
{{- define "tidegate.placement" -}}
{{- with .of.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "tidegate.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The namespaces that are watched, with the release's own among them or not at all. */}}
{{- define "tidegate.namespaces" -}}
{{- if .Values.watchNamespaces -}}
{{- if not (has .Release.Namespace .Values.watchNamespaces) -}}
{{- fail (printf "watchNamespaces has to name the release's own namespace too: %s" .Release.Namespace) -}}
{{- end -}}
{{- .Values.watchNamespaces | uniq | sortAlpha | join "," -}}
{{- end -}}
{{- end -}}

{{/* The scheme of each face and its ports, in plain text and with TLS, where an Adapter does not say others. */}}
{{- define "tidegate.ports" -}}
http: {scheme: http, plain: 80, tls: 443}
websocket: {scheme: ws, plain: 80, tls: 443}
mqtt: {scheme: mqtt, plain: 1883, tls: 8883}
coap: {scheme: coap, plain: 5683, tls: 5684}
{{- end -}}

{{/* The port of a face (face, adapter) that is in plain text; nothing where there is none. */}}
{{- define "tidegate.plainPort" -}}
{{- $ports := list -}}
{{- range .adapter.spec.listeners }}{{- if has (.transport | default "TCP") (list "TCP" "UDP") }}{{ $ports = append $ports .port }}{{ end }}{{- end -}}
{{- if $ports -}}{{ first $ports }}
{{- else if not .adapter.spec.listeners -}}{{ index (include "tidegate.ports" . | fromYaml) .face "plain" }}
{{- end -}}
{{- end -}}
