"""Bodies of chats to begin with: requests, answers and chunks that use each part of the format once."""

from __future__ import annotations

import json

REQUESTS: tuple[bytes, ...] = tuple(json.dumps(body, ensure_ascii=False).encode() for body in (
    {"model": "qwen-plus", "messages": [{"role": "user", "content": "hello 4111 1111 1111 1111"}], "stream": True},
    {"model": "qwen-max", "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [
            {"type": "text", "text": "what is this\u200b?"},
            {"type": "image_url", "image_url": {"url": "https://x.io/a.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
            {"type": "input_audio", "input_audio": {"data": "UklGR" * 20, "format": "wav"}}]},
        {"role": "assistant", "content": None, "reasoning_content": "think", "tool_calls": [
            {"id": "call_1", "type": "function", "index": 0,
             "function": {"name": "kb_search", "arguments": '{"q": "anna@x.io", "n": 12345678, "deep": [{"k": null}]}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": '{"hits": ["\\u4e2d"]}'},
        {"role": "assistant", "content": "so", "refusal": "no", "function_call": {"name": "f", "arguments": "{broken \\u0041"}},
        {"role": "user", "name": "bob smith 3", "content": "再来"}],
     "tools": [{"type": "function", "function": {"name": "kb_search", "description": "finds", "parameters": {
         "type": "object", "properties": {"q": {"type": "string", "enum": ["a b", "c"]}}, "required": ["q",
         "odd key 123456789"]}}}],
     "functions": [{"name": "f"}], "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
     "prediction": {"type": "content", "content": "so"}, "seed": 1.5e3, "n": 12345678901234567890},
    {"messages": [{"role": "user", "content": {"type": "text", "text": "one part"}, "extra": {"deep key !": [1234567, True]}}]},
))

ANSWERS: tuple[bytes, ...] = tuple(json.dumps(body, ensure_ascii=False).encode() for body in (
    {"id": "c1", "object": "chat.completion", "model": "qwen-plus", "created": 1, "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi there", "reasoning_content": "hm"},
         "logprobs": {"content": [{"token": "hi", "logprob": -1.5, "top_logprobs": []}]}},
        {"index": 1, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": "", "tool_calls": [
            {"id": "call_2", "type": "function", "function": {"name": "pay", "arguments": '{"to": "x y", "sum": 1234567}'}}]}}],
     "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}},
    {"choices": [{"message": {"content": [{"type": "refusal", "refusal": "I can not"}], "annotations": ["a note"]}}]},
    {"error": {"message": "no", "code": "invalid"}},
))

CHUNKS: tuple[bytes, ...] = tuple(json.dumps(body, ensure_ascii=False).encode() for body in (
    {"id": "c1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hel"},
        "finish_reason": None, "logprobs": {"content": []}}]},
    {"choices": [{"index": 0, "delta": {"reasoning_content": "hm", "refusal": "no way"}, "finish_reason": None},
                 {"index": 1, "delta": {"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                     "function": {"name": "pay", "arguments": '{"to": '}}]}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"total_tokens": 7}},
    {"choices": [{"delta": {"function_call": {"name": "f", "arguments": "}"}, "audio": {"id": "a1", "data": "UklGR" * 20}},
                  "stop_reason": "odd words 123"}]},
    {"choices": [], "usage": {"total_tokens": 7}},
    {"error": {"message": "down"}},
))

WORDS: tuple[bytes, ...] = (
    b'"messages"', b'"content"', b'"role"', b'"user"', b'"tool"', b'"tools"', b'"tool_calls"', b'"function"', b'"arguments"',
    b'"name"',
    b'"choices"', b'"delta"', b'"message"', b'"index"', b'"finish_reason"', b'"image_url"', b'"url"', b'"data"', b'"type"',
    b'"text"',
    b'"required"', b'"reasoning_content"', b'"refusal"', b'"Messages"', b'"a/b~c#d"', b'"#"', b'""', b'"\\u0000"', b'"\\ud800"',
    b'"data:;base64,"', b'{"a": "b c"}', b'"{\\"k\\": \\"v w\\"}"', b"1234567", b"[]", b"{}", b"null,",
)
