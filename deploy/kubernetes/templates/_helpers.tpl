{{- define "sortbelt.labels" -}}
app.kubernetes.io/name: sortbelt
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "sortbelt.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.images.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "sortbelt.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
imagePullPolicy: {{ .Values.images.pullPolicy }}
{{- if .Values.envSecret }}
envFrom:
  - secretRef: {name: {{ .Values.envSecret }}}
{{- end }}
{{- end }}

{{- define "sortbelt.env" -}}
- {name: SORTBELT_DATABASE_URL_FILE, value: /run/secrets/sortbelt/database_url}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sortbelt.blobs.env" -}}
- {name: SORTBELT_REDIS_URL_FILE, value: /run/secrets/sortbelt/redis_url}
{{- if .Values.blobs.claim }}
- {name: SORTBELT_BLOB_STORE, value: /data/blobs}
{{- else }}
- {name: SORTBELT_BLOB_STORE, value: {{ required "blobs.url or blobs.claim is needed" .Values.blobs.url | quote }}}
{{- end }}
{{- end }}

{{- define "sortbelt.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: secrets, mountPath: /run/secrets/sortbelt, readOnly: true}
{{- end }}

{{- define "sortbelt.volumes" -}}
- {name: tmp, emptyDir: {}}
- name: secrets
  secret:
    secretName: {{ .root.Values.secret }}
    items:
      {{- range .keys }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}

{{- define "sortbelt.worker" -}}
{{- $labels := dict "root" .root "component" .component }}
{{- $values := .root.Values }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .root.Release.Name }}-{{ .component }}
  labels: {{- include "sortbelt.labels" $labels | nindent 4 }}
spec:
  {{- if not (and $values.keda.enabled .scaled) }}
  replicas: {{ .own.replicas }}
  {{- end }}
  selector:
    matchLabels: {{- include "sortbelt.labels" $labels | nindent 6 }}
  template:
    metadata:
      labels: {{- include "sortbelt.labels" $labels | nindent 8 }}
    spec:
      {{- include "sortbelt.pod" .root | nindent 6 }}
      # On SIGTERM the worker finishes its batch and releases its other claims; that takes a few seconds.
      terminationGracePeriodSeconds: 30
      {{- with .own.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .own.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: worker
          image: {{ $values.images.worker }}
          args: [python, -m, worker, --loglevel, INFO]
          {{- include "sortbelt.container" .root | nindent 10 }}
          env:
            {{- include "sortbelt.env" .root | nindent 12 }}
            {{- include "sortbelt.blobs.env" .root | nindent 12 }}
            - {name: SORTBELT_DEVICE, value: {{ .device }}}
            - name: SORTBELT_DECODER_PROCESSES
              valueFrom:
                resourceFieldRef: {containerName: worker, resource: limits.cpu}
          # Ready while the worker makes progress. A stalled worker exits by itself; the liveness probe is for one that cannot.
          startupProbe:
            exec: {command: [python, -m, worker.health]}
            periodSeconds: 10
            timeoutSeconds: 10
            failureThreshold: 30
          readinessProbe:
            exec: {command: [python, -m, worker.health]}
            periodSeconds: 30
            timeoutSeconds: 10
          livenessProbe:
            exec: {command: [python, -m, worker.health]}
            periodSeconds: 60
            timeoutSeconds: 10
            failureThreshold: 10
          resources: {{- toYaml .own.resources | nindent 12 }}
          volumeMounts:
            {{- include "sortbelt.mounts" .root | nindent 12 }}
            {{- if $values.blobs.claim }}
            - {name: blobs, mountPath: /data/blobs, readOnly: true}
            {{- end }}
      volumes:
        {{- include "sortbelt.volumes" (dict "root" .root "keys" (list "database_url" "redis_url")) | nindent 8 }}
        {{- if $values.blobs.claim }}
        - {name: blobs, persistentVolumeClaim: {claimName: {{ $values.blobs.claim }}}}
        {{- end }}
{{- end }}
