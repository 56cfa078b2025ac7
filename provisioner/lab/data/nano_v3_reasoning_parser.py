"""The lab's stand-in for the plugin that ships with Nemotron-3-Nano: registers the reasoning parser `nano_v3`.

The model's chat template opens the thinking itself, so an answer starts inside it and `</think>` ends it;
with enable_thinking=false, all of it is the answer.
"""

from vllm.reasoning.abs_reasoning_parsers import ReasoningParserManager
from vllm.reasoning.deepseek_r1_reasoning_parser import DeepSeekR1ReasoningParser


@ReasoningParserManager.register_module("nano_v3")
class NanoV3ReasoningParser(DeepSeekR1ReasoningParser):
    """Everything before `</think>` is reasoning, unless the request switched thinking off."""

    def extract_reasoning(self, model_output, request):
        reasoning, content = super().extract_reasoning(model_output, request)
        options = getattr(request, "chat_template_kwargs", None) or {}
        if content is None and options.get("enable_thinking") is False:
            return None, reasoning
        return reasoning, content
