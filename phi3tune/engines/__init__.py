"""Models that answer and score: torch and onnxruntime-genai behind one protocol."""
