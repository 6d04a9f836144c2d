{{- define "nixery.env" -}}
- {name: PORT, value: "8080"}
- {name: NIXERY_OPERATIONS_LISTEN, value: "tcp:9090"}
{{- if eq .Values.storage.type "gcs" }}
- {name: BUCKET, value: {{ .Values.storage.bucket | quote }}}
{{- else if eq .Values.storage.type "s3" }}
- {name: S3_BUCKET, value: {{ .Values.storage.bucket | quote }}}
{{- end }}
{{- if and (gt (int .Values.replicas) 1) (not (hasKey .Values.settings "NIXERY_HANDOVER")) }}
# Who waits for a build when this one is stopped goes on with the other.
- {name: NIXERY_HANDOVER, value: "on"}
{{- end }}
{{- if .Values.tls.secret }}
- {name: NIXERY_TLS_CERT, value: /run/secrets/nixery/tls/tls.crt}
- {name: NIXERY_TLS_KEY, value: /run/secrets/nixery/tls/tls.key}
{{- end }}
{{- if .Values.rules }}
- {name: NIXERY_RULES, value: /run/nixery/rules/rules.toml}
{{- end }}
{{- range $name, $file := .Values.secretFiles }}
{{- $folder := printf "/run/secrets/nixery/%s/" (include "nixery.volume" (dict "variable" $name)) }}
- {name: {{ $name }}, value: {{ printf "%s%s" $folder (replace " " (printf " %s" $folder) $file.key) | quote }}}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- range $name, $from := .Values.secretSettings }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {name: {{ $from.secret }}, key: {{ $from.key }}}
{{- end }}
{{- end -}}

{{- define "nixery.mounts" -}}
- {name: state, mountPath: /var/lib/nixery, subPath: state}
- {name: state, mountPath: /nix, subPath: nix}
- {name: tmp, mountPath: /tmp}
{{- if .Values.tls.secret }}
- {name: tls, mountPath: /run/secrets/nixery/tls, readOnly: true}
{{- end }}
{{- if .Values.rules }}
- {name: rules, mountPath: /run/nixery/rules, readOnly: true}
{{- end }}
{{- range $name, $file := .Values.secretFiles }}
{{- $volume := include "nixery.volume" (dict "variable" $name) }}
- {name: {{ $volume }}, mountPath: /run/secrets/nixery/{{ $volume }}, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "nixery.volumes" -}}
- name: tmp
  emptyDir: {}
{{- if .Values.tls.secret }}
- name: tls
  secret: {secretName: {{ .Values.tls.secret }}, defaultMode: 0440}
{{- end }}
{{- if .Values.rules }}
- name: rules
  configMap: {name: {{ include "nixery.name" . }}-rules}
{{- end }}
{{- range $name, $file := .Values.secretFiles }}
- name: {{ include "nixery.volume" (dict "variable" $name) }}
  secret:
    secretName: {{ $file.secret }}
    # For the pod's group (fsGroup), and nobody else.
    defaultMode: 0440
    items:
      {{- range splitList " " $file.key }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
{{- if .Values.storage.existingClaim }}
- name: state
  persistentVolumeClaim: {claimName: {{ .Values.storage.existingClaim }}}
{{- else if ne .Values.storage.type "volume" }}
# A file system of its own: of an emptyDir, nobody in the pod sees how much room it has left.
- name: state
  ephemeral:
    volumeClaimTemplate:
      spec:
        {{- include "nixery.claim" . | nindent 8 }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "nixery.affinity" -}}
{{- if .Values.affinity -}}
{{ toYaml .Values.affinity }}
{{- else -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 1
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "nixery.selector" . | nindent 12 }}
{{- end -}}
{{- end -}}

{{- define "nixery.pod" -}}
metadata:
  labels:
    {{- include "nixery.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- if .Values.serviceMonitor.enabled }}
    prometheus.io/scrape: "false"
    {{- else }}
    prometheus.io/scrape: "true"
    prometheus.io/port: "9090"
    {{- end }}
    {{- if .Values.rules }}
    # Otherwise a change counts when the kubelet has it, which takes a minute.
    checksum/rules: {{ .Values.rules | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  # The pause before, NIXERY_DRAIN, and what ending Nix takes.
  terminationGracePeriodSeconds: {{ add 45 (.Values.settings.NIXERY_DRAIN | default 30 | int) }}
  serviceAccountName: {{ include "nixery.account" . }}
  automountServiceAccountToken: false
  # Otherwise a Service named nixery would set variables that begin like settings.
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- if or .Values.affinity (gt (int .Values.replicas) 1) }}
  affinity:
    {{- include "nixery.affinity" . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: nixery
      image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      env:
        {{- include "nixery.env" . | nindent 8 }}
      ports:
        - {name: registry, containerPort: 8080}
        - {name: operations, containerPort: 9090}
      # Connections come until all have heard that this one takes no more.
      lifecycle:
        preStop:
          exec: {command: [sleep, "5"]}
      startupProbe:
        httpGet: {path: /healthz, port: operations}
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        httpGet: {path: /healthz, port: operations}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: operations}
        periodSeconds: 5
        timeoutSeconds: 6
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        {{- include "nixery.mounts" . | nindent 8 }}
  volumes:
    {{- include "nixery.volumes" . | nindent 4 }}
{{- end -}}
