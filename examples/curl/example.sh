#!/bin/sh
# curl: chat, a stream, a tool, a picture, structured output, and a message in Anthropic's format.
set -eu
GATEWAY=${GATEWAY:-http://127.0.0.1:8000} MODEL=${MODEL:-demo}
PIXEL=data:image/png\;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==
SCHEMA='{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'

post() {
  printf '%s: ' "$1"
  curl -sSN --fail-with-body "$GATEWAY$2" -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d "$3"
  echo
}
say() { printf '{"model": "%s", "max_tokens": 200, "messages": [{"role": "user", "content": %s}]%s}' "$MODEL" "$1" "$2"; }

CHAT=/v1/chat/completions
post chat $CHAT "$(say '"Hello"' '')"
post stream $CHAT "$(say '"Hello again"' ', "stream": true')"
post tool $CHAT "$(say '"Paris"' ", \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"weather\", \"parameters\": $SCHEMA}}]")"
post picture $CHAT "$(say "[{\"type\": \"text\", \"text\": \"What is this?\"}, {\"type\": \"image_url\", \"image_url\": {\"url\": \"$PIXEL\"}}]" '')"
post structured $CHAT "$(say '"Berlin"' ", \"response_format\": {\"type\": \"json_schema\", \"json_schema\": {\"name\": \"place\", \"schema\": $SCHEMA}}")"
post message /v1/messages "$(say '"Hello"' '')"
