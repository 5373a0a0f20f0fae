"""
Which labels did a HuggingFace Trainer have to memorize?
========================================================

A small BERT reads eight words; the first of them decides the class. A tenth of the 900 labels is wrong. A callback
notes during training how each example fared in each epoch.
"""

import tempfile

import datasets
import torch
from transformers import BertConfig, BertForSequenceClassification, PrinterCallback, Trainer, TrainingArguments

import mechmem as mm

words = torch.randint(2, 40, (900, 8), generator=torch.Generator().manual_seed(0))
data = datasets.Dataset.from_dict({"input_ids": words.tolist(), "label": (words[:, 0] % 3).tolist()})
task = mm.DatasetTask(data.with_format("torch"), noise=mm.LabelNoise(0.1))

# %%
# ``task.data()`` is the data set as the network gets it, with the wrong labels in place.
sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
torch.manual_seed(0)
model = BertForSequenceClassification(BertConfig(vocab_size=40, num_labels=3, **sizes))
arguments = TrainingArguments(
    output_dir=tempfile.mkdtemp(),
    num_train_epochs=12,
    per_device_train_batch_size=32,
    learning_rate=3e-3,
    use_cpu=True,
    report_to="none",
    save_strategy="no",
    disable_tqdm=True,
)
callback = mm.HuggingFaceCallback(task, roles=mm.Roles(output=mm.Output(element="logits")))
trainer = Trainer(model, arguments, train_dataset=task.data(), callbacks=[callback])
trainer.remove_callback(PrinterCallback)
training = trainer.train()

# %%
# The run opens like any other. A score of the whole training stands beside the loss at its end.
network = mm.load(callback.path, model=model, task=task)
scores = mm.example_scores(network, ["aum", "forgetting_events", "learning_speed"])
quality = mm.detect_label_noise(scores)
quality

# %%
# So those with a small margin all through training: it finds the wrong labels with AUROC 1.00, and the loss at the end
# with 0.98.
