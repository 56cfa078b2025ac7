"""The lab's stand-in for the plugin that ships with Nemotron-3-Nano: registers the reasoning parser `nano_v3`.

The model's chat template opens the thinking itself, so an answer starts inside it and `</think>` ends it;
with enable_thinking=false, all of it is the answer.

Where the lab's tiny model calls a tool, its thinking ends in the middle of a token. vLLM looks for `</think>` as a
token of its own in a stream: here every token that holds it counts.
"""

from vllm.reasoning.abs_reasoning_parsers import ReasoningParserManager
from vllm.reasoning.deepseek_r1_reasoning_parser import DeepSeekR1ReasoningParser, DeltaMessage


@ReasoningParserManager.register_module("nano_v3")
class NanoV3ReasoningParser(DeepSeekR1ReasoningParser):
    """Everything before `</think>` is reasoning, unless the request switched thinking off."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._holding = {number for token, number in self.vocab.items() if self.end_token in token}

    def extract_reasoning(self, model_output, request):
        reasoning, content = super().extract_reasoning(model_output, request)
        options = getattr(request, "chat_template_kwargs", None) or {}
        if content is None and options.get("enable_thinking") is False:
            return None, reasoning
        return reasoning, content

    def extract_reasoning_streaming(
        self, previous_text, current_text, delta_text, previous_token_ids, current_token_ids, delta_token_ids
    ):
        if self._holding & set(delta_token_ids) and self.end_token_id not in delta_token_ids:
            reasoning, _, content = delta_text.partition(self.end_token)
            return DeltaMessage(reasoning=reasoning, content=content or None)
        before, now = self._seen(previous_token_ids), self._seen(current_token_ids)
        return super().extract_reasoning_streaming(
            previous_text, current_text, delta_text, before, now, delta_token_ids
        )

    def is_reasoning_end(self, input_ids):
        return super().is_reasoning_end(self._seen(input_ids))

    def is_reasoning_end_streaming(self, input_ids, delta_ids):
        return super().is_reasoning_end_streaming(input_ids, self._seen(delta_ids))

    def extract_content_ids(self, input_ids):
        return super().extract_content_ids(self._seen(input_ids))

    def _seen(self, ids):
        return [self.end_token_id if number in self._holding else number for number in ids]
