{{- define "nixery.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "nixery.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nixery.labels" -}}
{{ include "nixery.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "nixery.port" -}}
{{ .Values.service.port | default (ternary 443 80 (ne .Values.tls.secret "")) }}
{{- end -}}

{{- define "nixery.volume" -}}
{{ .variable | lower | replace "_" "-" }}
{{- end -}}

{{- define "nixery.account" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "nixery.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "nixery.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .Values.storage.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests: {storage: {{ .Values.storage.size }}}
{{- end -}}
