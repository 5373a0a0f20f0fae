"""Calls with wrong arguments: one error of mechmem's each, in one line, that names the argument and what is allowed."""

import copy
import dataclasses
import inspect
import pathlib
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mechmem as mm
from mechmem.core.arguments import checked, fits
from mechmem.core.config import Config
from mechmem.core.plugins import KINDS, Plugin, plugins
from mechmem.errors import ConfigError, MechmemError

HUGE = 10**400


class NoForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))


class Complex(nn.Module):
    def forward(self, x):
        return torch.zeros(len(x), 5, dtype=torch.complex64)


class Sparse(nn.Module):
    def forward(self, x):
        return torch.zeros(len(x), 5).to_sparse()


class Returns(nn.Module):
    """Returns the same whatever it is given."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


def fed(reduction):
    """Feed a reduction examples of two numbers, then of three."""
    reduction.update(torch.zeros(4, 2))
    reduction.update(torch.zeros(4, 3))


@pytest.fixture(scope="module")
def names(tiny_run, tmp_path_factory):
    """What the calls below speak of."""
    transformer = mm.TrainConfig(
        task=tiny_run.run.config.task,
        model=mm.TransformerConfig(d_model=8, heads=2),
        steps=1,
        evaluations=1,
        checkpoints=1,
    )
    other = mm.train(transformer, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates it
        scripted = torch.jit.script(nn.Linear(2, 5))
    task, folder = tiny_run.task, tmp_path_factory.mktemp("calls")
    labels = torch.arange(9) % 3
    return {
        "mm": mm,
        "np": np,
        "pd": pd,
        "torch": torch,
        "nn": nn,
        "HUGE": HUGE,
        "PAIRS": torch.cartesian_prod(torch.arange(5), torch.arange(5)),
        "SUMS": torch.cartesian_prod(torch.arange(5), torch.arange(5)).sum(1) % 5,
        "copy": copy,
        "fed": fed,
        "NoForward": NoForward,
        "Complex": Complex,
        "Sparse": Sparse,
        "Returns": Returns,
        "pixels": torch.arange(48, dtype=torch.uint8).reshape(3, 1, 4, 4),
        "attached": mm.attach(nn.Sequential(nn.Linear(2, 5)), "0"),
        "bare": mm.Subject(tiny_run.model, task),
        "scripted": scripted,
        "s": tiny_run,
        "t": other,
        "task": task,
        "model": tiny_run.model,
        "config": tiny_run.run.config,
        "run": tiny_run.run.path,
        "folder": folder,
        "logits": torch.zeros(25, 5),
        "card": mm.audit(tiny_run, ["raw"]),
        "other_card": mm.audit(other, ["raw"]),
        "table": mm.example_scores(tiny_run, ["margin"]),
        "meta": nn.Linear(2, 5, device="meta"),
        "over": mm.over_training(tiny_run, ["raw"]),
        "array_task": mm.ArrayTask(torch.arange(18.0).reshape(9, 2), labels, labels, torch.arange(9) < 6),
        "image_task": mm.ImageTask(mm.ImageConfig(train=100, test=50)),
        "recorder": mm.Recorder(tiny_run.model, task, steps=3, evaluations=[1]),
        "loader": torch.utils.data.DataLoader([0, 1, 2]),
        "arrays": (torch.arange(18.0).reshape(9, 2), labels, labels, torch.arange(9) < 6),
    }


CALLS = """
ModularConfig(train_fraction=HUGE)                     | train_fraction must be a number
ModularConfig(p=5.5)                                   | p must be a whole number
TrainConfig(lr=HUGE)                                   | lr must be a number, got a number of 401 digits
TrainConfig(betas=0.9)                                 | betas must be a tuple of 2 numbers
TrainConfig(betas=None)                                | betas must be
TrainConfig(stop_when=5)                               | stop_when must be a string
TrainConfig(stop_when='test >= 99')                    | stop_when .* at most 1
TrainConfig(stop_when='test <= -1')                    | stop_when
TrainConfig(steps=10**22)                              | steps must be at most
TrainConfig(steps=10**12)                              | steps must be at most
TrainConfig(evaluations=10**22)                        | evaluations must be at most
TrainConfig(evaluations=10**9)                         | evaluations must be at most
TrainConfig(checkpoints=10**9)                         | checkpoints must be at most
TrainConfig(batch_size=10**22)                         | batch_size must be at most
TrainConfig(seed=10**22)                               | seed must be at most
TrainConfig(seed=2**70)                                | seed must be at most
LabelNoise(True)                                       | fraction must be a number, got True
MLPConfig(bias='yes')                                  | bias must be True or False
TransformerConfig(layer_norm='x')                      | layer_norm must be True or False
Augmentation(flip='x')                                 | flip must be True or False
Augmentation(degrees=999)                              | degrees must be at most 360
Augmentation(shear=999)                                | shear must be
Roles(activation=5)                                    | activation must be
Roles(hidden=5)                                        | hidden must be
Role(None, None)                                       | parameter must be
Output(position='last')                                | position must be
ModularTask(None)                                      | config must be a ModularConfig
ModularTask(7)                                         | config must be a ModularConfig
ModularTask(mm.GroupConfig())                          | config must be a ModularConfig
GroupTask(None)                                        | config must be a GroupConfig
GroupTask(mm.ModularConfig())                          | config must be a GroupConfig
ImageTask(None)                                        | config must be an ImageConfig
ImageTask(mm.ImageConfig(), 5)                         | data must be an ImageData
train(config, out=5, progress=False)                   | out must be
train(config, out='', progress=False)                  | out
train(config, out='a\\0b', progress=False)             | out
train(config, out='x' * 300, progress=False)           | name
train(config, out='/proc/x', progress=False)           | /proc/x
train(config, device=None, progress=False)             | device must be a string
train(config, device='cpu:7', progress=False)          | device 'cpu:7'
train(None)                                            | config must be an mm.TrainConfig
train_subsets(config, networks=2, out=5, progress=False) | out must be
train_subsets(config, networks=10**22, progress=False) | networks must be at most
load(None)                                             | path must be
load(5)                                                | path must be
load(run, model=5)                                     | model must be
load(run, task=5)                                      | task must be
load(run, model=nn.Linear(2, 2), task=task)            | model
load(run, task=task)                                   | task
load(run, roles=5)                                     | roles must be
load(run, roles=mm.Roles(activation='act'))            | roles
load(run, step='a')                                    | step must be
audit(5)                                               | subject must be
audit([])                                              | subject
audit(s, 5)                                            | extractors must be
audit(s, [])                                           | extractors
audit(s, [5])                                          | extractors must be
audit(s, train=5)                                      | train must be a function
audit(s, ['raw'], noise_only=nn.Linear(2, 2))          | noise_only
audit(mm.Subject(model, task), ['raw'], train=lambda task: None) | train
audit([s, t], ['raw'])                                 | subject
audit([s, s.model], ['raw'])                           | subject must be
Subject(None, task)                                    | model must be a network
Subject(model, None)                                   | task must be a Task
Subject(model, task, None)                             | roles must be a Roles
Subject(model, task, name=5)                           | name must be a string
audit(mm.Subject(NoForward(), task), ['raw'])          | forward
audit(mm.Subject(Complex(), task), ['raw'])            | complex
audit(mm.Subject(meta, task), ['raw'])                 | meta
analyse(mm.Subject(meta, task), 'suppression')         | meta
audit_logits(None, task)                               | logits must be
audit_logits([[None]], task)                           | logits must
audit_logits(np.array([object()]), task)               | logits must be numbers
audit_logits(logits.to(torch.complex64), task)         | logits must be real
audit_logits(logits.to('meta'), task)                  | logits is on the meta device
audit_logits(logits > 0, task)                         | logits must be .*truth values
audit_logits(logits, None)                             | task must be a Task
audit_logits(logits, task, name=5)                     | name must be a string
audit_logits(logits, task, [])                         | extractors
compare(None)                                          | cards must be
compare(card)                                          | cards must be
compare([])                                            | cards
analyse(s, 5)                                          | name must be a string
analyse(model, 'suppression', task=task, roles=5)      | roles must be
analyse(model, 'suppression')                          | task
neuron_scores(s, None)                                 | names must be
neuron_scores(s, [])                                   | names
example_scores(s, None)                                | names must be
example_scores(s, [])                                  | names
example_scores([], ['margin'])                         | subjects
example_scores([s, t], ['margin'])                     | subjects
over_training(s, None)                                 | what must be
over_training(s, 5)                                    | what must be
over_training(s, [])                                   | nothing to measure
over_training(s, 'raw', steps=5)                       | steps must be
detect_label_noise(None)                               | table must be an ExampleTable
detect_label_noise(table, seed=-1)                     | seed
detect_label_noise(table, resamples=0)                 | resamples
detect_label_noise(table, resamples=1)                 | resamples must be a whole number of at least 2
choose_removals(None, 'margin', 3)                     | table must be an ExampleTable
choose_removals(table, 'margin', -3)                   | count
choose_removals(table, 'margin', 3, seed=-1)           | seed
data_value(s, {5: [1]})                                | removed must be
data_value(s, None)                                    | removed must be
data_value(s, {})                                      | remov
leave_one_out(s, sample=0)                             | sample
leave_one_out(s, seed=-1)                              | seed
influence(None)                                        | subjects must be
influence(s, method=5)                                 | method must be a string
influence(s, method='loss')                            | no method of influence 'loss'
influence(s, method='datainf(damping=x)')              | damping must be a number
attribution_quality(None)                              | subject must be an mm.Subject
attribution_quality(s, None)                           | methods must be
attribution_quality(s, [])                             | methods must be at least one
attribution_quality(s, networks=1)                     | networks must be a whole number of at least 2
attribution_quality(s, left_out=-1)                    | left_out
attribution_quality(s, left_out=2)                     | left_out must be 0, or at least 3
attribution_quality(s, left_out=10**6)                 | left_out must be at most
attribution_quality(s, resamples=1)                    | resamples must be a whole number of at least 2
attribution_quality(s, removals=5)                     | removals must be
attribution_quality(s, removals=[0])                   | number of removed examples
attribution_quality(s, flipped=0)                      | flipped
attribution_quality(s, seed=-1)                        | seed
probe_layers(s, points=[])                             | points
probe_layers(s, folds=1)                               | folds
probe_layers(s, folds=10**6)                           | folds
probe_layers(s, seed=-1)                               | seed
probe_layers(s, probe=None)                            | probe must be a string
activations(s, [])                                     | points
activations(mm.Subject(meta, task), '*')               | meta
load_tl_checkpoint(None, {})                           | source must be
load_tl_checkpoint({}, None)                           | cfg must be
load_tl_checkpoint({'a': 1}, {'n_layers': 1})          | source must be
planted_network(59, dtype=torch.long)                  | dtype
planted_network(59, dtype='float')                     | dtype must be a torch.dtype
planted_network('a')                                   | p must be a whole number
planted_network(7, memorized_fraction=2)               | memorized_fraction must lie in .0, 1., got 2
planted_network(7, memorized_fraction=float('nan'))    | memorized_fraction must lie
planted_network(7, width=0)                            | width
planted_network(7, seed=-1)                            | seed
write_report([(s, None)], folder / 'x.html')           | entries
write_report([(s, card)], None)                        | path must be
write_report([(s, card)], '')                          | path
write_report([(s, card)], '/proc/x.html')              | /proc
write_report([(s, card)], folder)                      | directory
write_report([(s, card)], folder / 'x.pdf')            | path must end in .html or .htm
write_report([(s, card)], folder / 'report')           | path must end in .html or .htm
write_report([(s, other_card)], folder / 'x.html')     | entries
write_report([], folder / 'x.html')                    | entries
explore(5, folder / 'x.html')                          | subject must be an mm.Subject
explore(s, 5)                                          | path must be
explore(s, '')                                         | path must be a path
explore(s, folder)                                     | directory
explore(s, run / 'config.json')                        | must end in .html or .htm
explore(s, folder / 'x.html', progress=5)              | progress must be True or False
explore(mm.Subject(nn.Linear(2, 3), array_task), folder / 'x.html') | inputs of ArrayTask.* are not pairs
Recorder(model, None, steps=3)                         | task must be a Task
Recorder(None, task, steps=3)                          | model must be a network
Recorder(model, task, steps=3, evaluations='a')        | evaluations must be
Recorder(model, task, steps=3, checkpoints=[99])       | checkpoints
Recorder(model, task, steps=3, checkpoints=[-1])       | checkpoints
Recorder(model, task, steps=3, checkpoints=[1.5])      | checkpoints
Recorder(model, task, steps=3, evaluations=10**9)      | evaluations
Recorder(model, task, steps=10**22)                    | steps must be at most
Recorder(model, task, steps=3, out='')                 | out
recorder(-1)                                           | step
recorder(7)                                            | step
recorder('a')                                          | step must be a whole number
subnetwork(model, 'own').__enter__()                   | mask
subnetwork(model, 5)                                   | part must be
attach(None)                                           | attach takes
attach(model, inputs='x')                              | inputs must be
ablate(s, by=5)                                        | by must be
ablate(s, points=10**22)                               | points must be at most
load_result('nowhere.safetensors')                     | cannot read nowhere.safetensors
load_result(run / 'config.json')                       | config.json: it is damaged, or no file of tensors
load_result('')                                        | path must be a path
pool_neurons(s)                                        | subjects must be
pool_neurons([])                                       | at least two networks, got 0
pool_neurons([s])                                      | at least two networks, got 1
pool_neurons([s, s])                                   | given twice
pool_neurons([s, 3])                                   | subjects must be
rank_curve(None)                                       | subject must be
rank_curve(s, 'W_ou')                                  | Did you mean 'W_out'
rank_curve(s, 5)                                       | layer must be a string
rank_curve(s, ranks=5)                                 | ranks must be
rank_curve(s, ranks=[])                                | ranks must be at least one
rank_curve(s, ranks=[0])                               | rank must be a whole number of at least 1
rank_curve(s, ranks=[True])                            | ranks must be
rank_curve(s, ranks=np.array(['a']))                   | rank must be a whole number of at least 1, or a fraction
rank_curve(s, ranks=[1.5])                             | fraction of the full rank between 0 and 1, got 1.5
rank_curve(s, ranks=[float('nan')])                    | fraction of the full rank between 0 and 1, got nan
rank_curve(s, 'W_out', ranks=[6])                      | rank must be at most 5, the full rank of 'W_out'
rank_curve(model)                                      | task
extractor('low_rank(W_out,0)')                         | rank must be a whole number of at least 1
extractor('low_rank(W_out,1.5)')                       | fraction of the full rank between 0 and 1, got 1.5
extractor('low_rank(W_out,half)')                      | rank must be
extractor('low_rank(rank=True)')                       | rank must be
audit(s, 'low_rank(W_ou,2)')                           | Did you mean 'W_out'
audit(s, 'low_rank(W_out,6)')                          | rank must be at most 5, the full rank of 'W_out'
edit_curves(None)                                      | subject must be
edit_curves(model)                                     | task
edit_curves(s, 5)                                      | edits must be
edit_curves(s, [])                                     | edits must be at least one surgery
edit_curves(s, [5])                                    | edits must be
edit_curves(s, 'low_rnk')                              | Did you mean 'low_rank'
edit_curves(s, 'raw')                                  | no surgery 'raw'
edit_curves(s, 'low_rank(W_ou)')                       | Did you mean 'W_out'
edit_curves(s, {'low_rank': 5})                        | edits must be
edit_curves(s, {'low_rank': []})                       | there are no values for 'low_rank'
edit_curves(s, {'low_rank': [0]})                      | rank must be a whole number of at least 1
edit_curves(s, {'low_rank': ['half']})                 | edits must be
edit_curves(s, {'quadratic': [1]})                     | no setting that makes 'activation' stronger
edit_curves(s, {'low_rank': [2]}).at_price('a')        | lost must be a number
edit_curves(s, {'low_rank': [2]}).at_price(2)          | lost must lie in \\[0, 1\\]
edit_curves(s, {'low_rank': [2]}).at_price(0.1, 'all') | no knowledge 'all'
edit_curves(s, {'low_rank': [2]}).readings([])         | prices must be at least one
edit_curves(s, {'low_rank': [2]}).readings([2.0])      | lost must lie in \\[0, 1\\]
extractor('curvature_directions(0)')                   | keep must be above 0 and at most 1, got 0
extractor('curvature_directions(1.5)')                 | keep must lie in \\[0, 1\\], got 1.5
extractor('curvature_directions(keep=most)')           | keep must be a number
extractor('curvature_directions(labels=wrong)')        | no labels of the gradients 'wrong'
extractor('curvature_directions(examples=0)')          | examples must be a whole number of at least 1
extractor('curvature_directions')(s)                   | needs linear_layers
audit(mm.Subject(nn.Linear(2, 5), array_task), 'curvature_directions(layers=wieght)') | Did you mean 'weight'
extractor('same_answer(-1)')                           | rank must be a whole number of at least 0
extractor('same_answer(2.5)')                          | rank must be a whole number
intervene(s, None)                                     | edit
intervene(s, (mm.Edit('act') for _ in 'ab'))           | edits must be an Edit or .*, got a generator
intervene(s, map(mm.Edit, ['act']))                    | edits must be .*, got a map
intervene(s, 'act')                                    | edits must be .*, got 'act'
intervene(s, [])                                       | edits hold no edit
intervene(s, [()])                                     | edits, or tuples of edits
intervene(s, mm.Edit('act'), limit_mb='x')             | limit_mb must be
Edit('act', neurons=(each for each in range(3)))       | neurons must be .*, got a generator
Edit('act', neurons=torch.zeros(12) > 0)               | at least one, got 12 truth values
Edit('act', channels=[False] * 3)                      | channels must be at least one
Edit('act', neurons=mm.NeuronSet.of([], 12, 'act'))    | neurons must be at least one
patch(s, at=(each for each in ['act']))                | at must be .*, got a generator
patch(s, positions=(each for each in [0]))             | positions must be .*, got a generator
path_patch(s, senders=(each for each in ['act']))      | senders must be .*, got a generator
ablate(s, order=(each for each in ['low']))            | order must be .*, got a generator
patch(None)                                            | receiver must be
path_patch(s, senders=None)                            | senders must be
neuron(s, 'a')                                         | whole number
neuron(s, None)                                        | whole number
real_and_random(None)                                  | config must be
reproduce(None)                                        | name must be a string
reproduce('nanda_2023', workers=0)                     | workers
isolation(None)                                        | what must be
extractor(None)                                        | name must be a string
extractor('')                                          | extractor
ArrayTask(None, *arrays[1:])                           | inputs must be
ArrayTask(arrays[0], 'abc', *arrays[2:])               | given must be
ArrayTask(arrays[0], arrays[1] + 0j, *arrays[2:])      | given must be
ArrayTask(arrays[0], arrays[1], arrays[2] + 0j, arrays[3]) | true must be
ArrayTask(*arrays, operands='abc')                     | operands must be
ArrayTask(*arrays, operands=torch.zeros(9, 2) + 0j)    | operands must be
ArrayTask(*arrays, operands=torch.zeros(9, 2, device='meta')) | operands is on the meta device
ArrayTask(arrays[0] + 0j, *arrays[1:])                 | inputs must be real
ArrayTask(arrays[0].to('meta'), *arrays[1:])           | inputs is on the meta device
ArrayTask(arrays[0], arrays[1], arrays[2] + 2**40, arrays[3]) | true must be below
ArrayTask(*arrays, n_classes=2**40)                    | n_classes must be at most
ArrayTask(*arrays, n_classes='3')                      | n_classes must be
ArrayTask(*arrays, operation=5)                        | operation must be a string
ArrayTask(*arrays, copies=True)                        | copies must be
ArrayTask(*arrays[:3], None)                           | train must be
ArrayTask(*arrays[:3], ['yes'] * 9)                    | train must be
DatasetTask(5)                                         | train must be a data set
DatasetTask([(torch.zeros(2), 0)] * 9, label=torch.zeros(3)) | label must have one value
DatasetTask([(torch.zeros(2), 0)] * 9, held_out=HUGE)  | held_out must be
DatasetTask([(torch.zeros(2), 0)] * 9, noise=0.3)      | noise must be
DatasetTask([(torch.zeros(2), 0)] * 9, collate='pad')  | collate must be
DatasetTask([(torch.zeros(2), 0)] * 9, seed=-1)        | seed must be
SequenceTask(5)                                        | tokens must
SequenceTask([[0, 1], [1]])                            | tokens must be rows of one length
SequenceTask([[0, 1]] * 2, vocabulary=HUGE)            | vocabulary must be
SequenceTask([[0, 1]] * 2, split='ab')                 | split must be
SequenceTask([[0, 1]] * 2, copies='keep')              | copies
SequenceTask.from_text(5)                              | text must be
SequenceTask.from_text(str(run / 'config.json'))       | text must be the text itself, .* is the path of a file
SequenceTask.from_text('abc', tokenizer=5)             | tokenizer must be
GrammarConfig(repeats=5)                               | repeats must be
GrammarTask(5)                                         | config must be a GrammarConfig
CausalTransformerConfig(tokens=-1)                     | tokens must be
NextToken(model, task)                                 | task must be a SequenceTask
memorized_sequences(s)                                 | needs a task of sequences
memorized_sequences(s, 'a')                            | prefix must be
continuations(s, [0], 3)                               | needs a task of sequences
continuations(model, [0], 3)                           | subject must be an mm.Subject
sequence_edits(s, 5)                                   | edits must be
sequence_edits(s, ['low_rank'])                        | needs a task of sequences
roles_from(nn.Linear(3, 3), task)                      | does not run
roles_from(nn.Linear(2, 5), task, examples=1)          | examples must be
label_issues(s, 'losss')                                | losss
label_issues(s, count=-1)                              | count must be
label_issues(s, neighbours=0)                          | neighbours must be
cleaned(task, 5)                                       | decisions must be
cleaned(task, pd.DataFrame({'id': [0]}))               | no column 'decision'
write_review(5, task, folder / 'r.html')               | issues must be
write_review(mm.label_issues(s), task, folder / 'r.txt')  | path must end in
NamedInputs({})                                        | named inputs must be
NamedInputs({'x': torch.zeros(2), 'y': torch.zeros(3)}) | named inputs must be
NamedInputs({'x': [1, 2]})                             | named inputs must be
ImageData.from_arrays(np.zeros((3, 4, 4)), np.array([0, 1, 2**60]))  | labels must be below
ImageData.from_arrays(np.zeros((3, 4, 4)), [0, 1, 2], n_test='a')    | n_test must be
ImageData.from_arrays(np.zeros((3, 4, 4)), [0, 1, 2], n_classes=2**40) | n_classes must be at most
ImageData.from_arrays(None, [0])                       | images must be
ImageData.from_arrays(np.zeros((3, 4, 4)), None)       | labels must be
audit([s, s])                                          | given twice
audit([s, mm.load(run)], ['raw'])                      | given twice
audit([s, mm.load(run, step=0)], ['raw'])              | of several trainings, .* mm.over_training
example_scores([s, mm.load(run, step=0)], ['margin'])  | of several trainings, .* mm.over_training
influence([s, mm.load(run, step=0)])                   | of several trainings, .* mm.over_training
pool_neurons([s, mm.load(run, step=0)])                | of several trainings, .* mm.over_training
example_scores([s, s], ['margin'])                     | given twice
audit(mm.Subject(model, task), ['raw'], train=lambda: None) | train must be a function of 1 argument
audit(mm.Subject(nn.LazyLinear(5), task), ['raw'])     | lazy parameters
audit(mm.Subject(scripted, task), ['raw']) | torch.jit
audit(mm.Subject(Sparse(), task), ['raw'])             | dense
activations(s, gradients=lambda logits: logits)        | gradients is a function of logits and given labels
activations(s, reduce=lambda: 5)                       | create a reduction.*; the function <lambda> returns 5
activations(s, reduce=torch.mean)                      | reduce is called .*; got the function mean
activations(s, reduce=np.mean)                         | reduce is called .*; got the function mean
activations(s, reduce=lambda values: values.mean(0))   | reduce is called .*; got the function <lambda>
activations(s, reduce='mean')                          | reduce is called to create a reduction.*; got 'mean'
activations(s)[5]                                      | name must be a string
compare([card] * 200)                                  | different names
extractor('(' * 5000)                                  | cannot read extractor
extractor('raw')(s)('ab')                              | ids must be whole numbers
ExampleScores('a', torch.tensor([0, 0]), torch.zeros(2)) | two scores for one example
NeuronScores('a', torch.zeros(3, 2), 'act')            | one value per neuron
NeuronSet.of([1], 12, 'act') & 5                       | mm.NeuronSet, got 5
Role('fc.weight', 'a b c -> c b a').arrange([torch.zeros(2, 3)]) | does not fit
ImageData.from_arrays(np.zeros((3, 4, 4)), [0, 1, 2]).save('') | path
ImageData.from_arrays(np.zeros((3, 4, 4)), [0, 1, 2]).save(5)  | path must be
ImageData.from_arrays(np.zeros((3, 4, 4)), [0, 1, 2]).save('/proc/x') | /proc
card.save('/proc/x')                                   | /proc
card.save(None)                                        | path must be
card.row('nope')                                       | no row of this scorecard 'nope'
table.against('margin', seed=-1)                       | seed
table.against('margin', resamples=1)                   | resamples must be a whole number of at least 2
over.plot([])                                          | at least one measurement
task.cell(0.5, 0)                                      | a must be a whole number
task.batch(None)                                       | ids must be whole numbers
task.batch(torch.tensor([0.5]))                        | ids must be whole numbers
task.batch(torch.tensor([-1]))                         | no example id -1
task.true(torch.tensor([25]))                          | no example id 25
task.given(torch.tensor([-1]))                         | no example id -1
array_task.batch(torch.tensor([-1]))                   | no example id -1
array_task.true(torch.tensor([9]))                     | no example id 9
array_task.given(torch.tensor([-1]))                   | no example id -1
image_task.batch(torch.tensor([-1]))                   | no example id -1
image_task.true(torch.tensor([-1]))                    | no example id -1
Recorder(model, task, steps=3, resume=4)               | resume must be at most 3
Recorder(model, task, steps=3, resume='a')             | resume must be a whole number
Recorder(model, task, steps=3, resume=2)               | the run in out, which was left out
Recorder(model, task, steps=3, resume=2, out='nothing') | nothing holds no run to go on with
recorder.observe(None, logits)                         | ids must be at least one example id
recorder.observe(torch.tensor(3), logits)              | ids must be at least one example id
recorder.observe(task.train_ids, None)                 | returns a NoneType, not logits
recorder.observe(task.train_ids, logits)               | logits of shape
recorder.observe(task.train_ids, logits[:len(task.train_ids)], [0, 1]) | labels must be a tensor
recorder.observe(task.test_ids, logits[:len(task.test_ids)]) | ids must be training examples
recorder.end_epoch('a')                                | step must be a whole number
recorder.end_epoch(1)                                  | no example was observed
HuggingFaceCallback(task, ids='id').watch_.follow(loader, None) | no column 'id'
HuggingFaceCallback(task).watch_.follow([1, 2], None)  | list has none
LightningCallback(task, ids=[1]).watch_.follow(loader, None) | have 3 rows, and there are 1 ids|ids must be training
SkorchCallback(task).watch_.follow(loader, None)       | have 3 rows, and the task has
KerasCallback(task, loader, checkpoints=0).watch_.begin(model, 3, passes=1) | checkpoints must be
KerasNetwork(model)                                    | must be a keras.Model
recorder.evaluate('a')                                 | step must be a whole number
recorder.checkpoint(-1)                                | step must be a whole number
recorder.finish(7, 'x')                                | step must be at most 3
recorder.checkpoint(1, 5)                              | optimizer must be
recorder.resume_at(1, None)                            | history must be
recorder.catch_up(None)                                | step must be a whole number
Output(classes=0)                                      | classes of an Output must be a whole number of at least 1
ArrayTask(PAIRS, SUMS, SUMS, torch.arange(25) < 20, operation='subtract') | gives 4 for .0, 1. mod 5
audit(s, ['raw'], untrained=model)                     | untrained must be another network
audit(s, ['raw'], noise_only=copy.deepcopy(model))     | noise_only must be another network
Subject(model, task).memo('x', None)                   | compute must be a function
Subject(model, task).with_model(None)                  | model must be a network
TurnOverDropout(4).factor('nope', torch.tensor([1]))   | no subnetwork 'nope'
ExampleTiedDropout(4).factor('nope', None)             | no subnetwork 'nope'
ExampleTiedDropout(4).factor('flipped', torch.tensor([1])) | no subnetwork 'flipped'
TurnOverDropout(4).factor('own', [0])                  | ids must be
TurnOverDropout(4).factor('own', None)                 | ids must be given
TurnOverDropout(4).factor('full', torch.tensor([1]))   | ids must be None
TurnOverDropout(4).mask(torch.tensor([-1]), 0.5)       | ids must be at least 0
TurnOverDropout(4).mask(torch.tensor([1]), 2.0)        | keep probability must
ExampleTiedDropout(4, shared=0)                        | share of shared units must lie between 0 and 1, got 0
ExampleTiedDropout(4, memory=1)                        | memory probability must lie between 0 and 1, got 1
data_value(s, {'a': s.task.train_ids})                 | 'a' are all training examples
card.export(run / 'config.json')                       | holds something else than a result
image_task.source(torch.tensor([-1]))                  | no example id -1
Mean().update(torch.tensor(1.0))                       | axis of examples
Gram().update(torch.tensor(1.0))                       | axis of examples
fed(mm.Mean())                                         | shape \\(3,\\) in this chunk and \\(2,\\)
fed(mm.Variance())                                     | shape \\(3,\\) in this chunk and \\(2,\\)
audit(s, ['raw'], untrained=t.model)                   | untrained must be a network like
audit(bare, ['raw'], train=lambda task: model)         | train returns must be another network
audit(bare, ['raw'], train=lambda task: copy.deepcopy(model)) | train returns must be another network
audit(bare, ['raw'], train=lambda task: t.model)       | train returns must be a network like .* same architecture
audit(bare, ['raw'], train=lambda task: nn.Linear(2, 5)) | train returns must be a network like
audit(bare, ['raw'], train=lambda task: meta)          | train returns must be .* meta device
audit(bare, ['raw'], train=lambda task: Returns(None)) | train returns must be .* there is no tensor in it
probe_layers(s, untrained=model)                       | untrained must be another network
probe_layers(s, untrained=t.model)                     | untrained must be a network like
probe_layers(s, clean_labels=model)     | clean_labels must be another network
audit(mm.Subject(Returns(None), task), ['raw'])        | returns a NoneType, not logits; there is no tensor
audit(mm.Subject(Returns(torch.zeros(25, 5) > 0), task), ['raw'])     | got torch.bool
audit(mm.Subject(Returns(torch.zeros(25, 5).to(torch.float8_e5m2)), task), ['raw']) | got torch.float8_e5m2
audit(mm.Subject(Returns(torch.zeros(25, 5, device='meta')), task), ['raw']) | logits are on the meta device
audit(mm.Subject(nn.Linear(7, 3), array_task), ['raw']) | network does not run on the task's inputs, .* multiplied
audit(mm.Subject(nn.Bilinear(1, 1, 3), array_task), ['raw']) | network does not run on the task's inputs, .* 'input2'
example_scores(mm.Subject(nn.Linear(7, 3), array_task)) | network does not run on the task's inputs
activations(mm.Subject(mm.attach(nn.Sequential(nn.Linear(7, 3)), '0'), array_task)) | network does not run on the task's
isolation(mm.Subject(nn.Sequential(nn.Linear(7, 4), mm.TurnOverDropout(4)), array_task)) | network does not run on
neuron(s, True)                                        | whole number, got True
task.batch(torch.ones(25, dtype=torch.bool))           | ids must be whole numbers, got a mask
task.given(torch.tensor(0))                            | ids must be whole numbers, one per example
task.true(torch.tensor([[0, 1]]))                      | ids must be whole numbers, one per example
task.rows(torch.ones(25, dtype=torch.bool))            | ids must be whole numbers, got a mask
array_task.batch(torch.ones(9, dtype=torch.bool))      | ids must be whole numbers, got a mask
image_task.given(torch.ones(1797, dtype=torch.bool))   | ids must be whole numbers, got a mask
Role('w', 'a -> a', first=-1)                          | first of a Role must be a whole number of at least 1
Role('w', 'a -> a', {'a': 0})                          | size of 'a' of a Role
Role('w', 'a -> a', first=5).arrange([torch.zeros(2)]) | first is 5, but 'w' has shape .2,.
Role('w', 'a -> a').arrange([])                        | reads 1 tensors, got 0
Role('w', 'a -> a').arrange([[1.0]])                   | stored must be a list of tensors
Role('w', 'a -> a').read(5)                            | model must be a network
Role('weight', 'a b -> b a').write(nn.Linear(2, 5), 5) | value must be a tensor
Edit('act', torch.zeros(12) + 0j)                      | values of an edit must be real numbers
Edit('act', np.zeros(12) + 0j)                         | values of an edit must be real numbers
Edit('act', torch.zeros(12, device='meta'))            | values of an edit are on the meta device
Edit('act', name=5)                                    | name of an edit must be a string
reproduce('nanda_2023', scale='smoke', out='')         | out must be a path
real_and_random(config, out='')                        | out must be a path
real_and_random(config, out='x/../y')                  | leads through x, which does not exist
train(config, out='x/../y', progress=False)            | leads through x, which does not exist
card.save('x/../..')                                   | leads through x, which does not exist
Scorecard.load('x' * 300)                           | path has a name of 300 bytes
Scorecard.load('')                                  | path must be a path
write_report([(s, card)], run / 'config.json')         | path must end in .html
ImageData(pixels, torch.arange(3), 2, 0)               | labels must lie in 0 … 1
ImageData(pixels, torch.arange(3), 3, 3)               | n_test must be less than
ImageData(pixels, torch.arange(3), 3, -1)              | n_test
ImageData(pixels, torch.arange(3), 3, 0, ('a',))       | class_names must be 3 names
ImageData.from_arrays(np.zeros((3, 4, 4)), [-1, -2, -3]) | labels must be classes, .* holds -3
ImageTask(mm.ImageConfig('x' * 5000))                  | cannot read images from 'xxx.*too long
NeuronScores('a', [1.0, 2.0], 'act')                   | values must be a tensor
NeuronScores(5, torch.zeros(3), 'act')                 | score must be a string
NeuronScores('a', torch.zeros(3) + 0j, 'act')          | 'a' must be real numbers
NeuronScores('a', torch.zeros(3, device='meta'), 'act') | meta device
ExampleScores('a', [0, 1], torch.zeros(2))             | ids must be a tensor
ExampleScores('a', torch.tensor([0.5, 1]), torch.zeros(2)) | ids of 'a' must be whole numbers
ExampleScores('a', torch.tensor([0, 1]), torch.zeros(2) > 0) | 'a' must be real numbers
NeuronSet([True], 'act')                            | mask must be a tensor
NeuronSet.of(5, 3, 'act')                           | neurons are given by number, several
NeuronSet.of([1], '3', 'act')                       | width of a layer
NeuronSet.of([], 10**12, 'act')                     | width of a layer must be at most
NeuronSet.of([2**70], 3, 'act')                     | neurons are numbered 0 … 2
table.against('margin', resamples=10**12)              | resamples must be at most
detect_label_noise(table, resamples=10**12)            | resamples must be at most
data_value(s, {'a': task.train_ids[:2]}, seeds=10**9)  | number of seeds must be at most
ablate(s, order='random', draws=10**9)                 | draws must be at most
Recorder(model, task, steps=3, evaluations=range(10**9)) | evaluations must be at most
Recorder(meta, task, steps=3)                          | meta device
Recorder(nn.LazyLinear(5), task, steps=3)              | lazy parameters
Recorder(nn.ModuleList(), task, steps=3)               | forward
ResNetConfig(width=10**8)                              | width of the last stage must be at most
planted_network(7, width=10**9)                        | width must be at most
planted_network(7, dtype=torch.float8_e5m2)            | dtype must be a floating-point type
ArrayTask(*arrays, operands=PAIRS[:9] + 2**40)         | operands must be below
activations(s, reduce=mm.Reduction)                    | reduce is called to create a reduction
activations(s, ids=torch.zeros(2, device='meta'))      | ids is on the meta device
activations(s, ids=5)                                  | a tensor or a list of whole numbers or an array
attached.run_with_hooks(torch.zeros(2, 2), fwd_hooks=['0.hook_out']) | hooks are a list of pairs
attached.run_with_hooks(torch.zeros(2, 2), fwd_hooks=5) | hooks are a list of pairs
load_tl_checkpoint({'a': torch.zeros(1)}, {'n_layers': 10**9}) | n_layers=1,000,000,000, with 1 tensors
over_training(s, 'nope')                               | no measurement 'nope'
analyse(s, 'nope')                                     | no analysis 'nope'
analyse(s, 'x' * 5000)                                 | no analysis 'xxx
GroupConfig('Z' + '9' * 5000)                          | no group 'Z999
audit(s, ['raw', 'raw'])                               | extractors: 'raw' is given twice
audit(s, ['raw', 'logits'])                            | extractors: 'raw' is given twice
ablate(s, order=['low', 'low'])                        | order of ablation: 'low' is given twice
over_training(s, ['ipr', 'ipr'])                       | what: 'ipr' is given twice
neuron_scores(s, ['ipr', 'ipr'])                       | neuron_scores: 'ipr' is given twice
example_scores(s, ['margin', 'margin'])                | example_scores: 'margin' is given twice
attribution_quality(s, ['trak', 'trak'])               | methods: 'trak' is given twice
TrainConfig(left_out=(3, 4, 3))                        | left_out: 3 is given twice
train(mm.TrainConfig(mm.ModularConfig(p=5), steps=2, stop_when='train_noisy >= 1')) | no examples in train_noisy
Subject(s.model, s.task, name=' ')                     | a subject needs a name
Subject(s.model, s.task, mm.Roles(readout=mm.Role('nope', 'a b -> a b'))) | no parameter 'nope'
Recorder(s.model, s.task, steps=2, roles=mm.Roles(activation='nope')) | no submodule 'nope'
attached.run_with_hooks(torch.zeros(2, 2), fwd_hooks=[('0.hook_out', lambda value, hook: value.double())]) | float64
sweep(mm.TrainConfig(), {'seed': [1]}, out='sweep', workers=10**6) | number of workers must be at most
sweep(mm.TrainConfig(), {'seed': [1]}, out='')          | out must be a path
sweep(mm.TrainConfig(), {'lr': np.array(0.1)}, out='s') | lr must be a list of values
sweep(mm.TrainConfig(), {'lr': {0.1, 0.2}}, out='s')   | lr must be a list of values
NamedInputs({'x': torch.zeros(2, 3)})['x']             | rows of named inputs are chosen by
NamedInputs({3: torch.zeros(2, 3)})                    | names of inputs must be strings
intervene(s, mm.Edit('hook_hidden', 1e39))             | at most 3.4e\\+38 in a network of float32
Edit('hook_hidden', 10**400)                           | value of an edit must be finite
intervene(s, mm.Edit('hook_hidden', torch.empty(0)))   | cannot be given \\(0,\\)
intervene(s, mm.Edit('hook_hidden'), ids=[3, 3])       | ids must be distinct
patch(s, ids=[3, 3])                                   | ids must be distinct
patch(s, ids=[3, 3], donor_ids=[4, 4])                 | distinct pairs, but \\(3, 4\\) is repeated
edit_curves(s, ['low_rank', 'low_rank'])               | edits: 'low_rank' is given twice
fed(mm.Gram())                                         | shape \\(3,\\) in this chunk and \\(2,\\)
"""
CASES = [tuple(part.strip() for part in line.rsplit(" | ", 1)) for line in CALLS.strip().splitlines()]


@pytest.mark.parametrize(("call", "said"), CASES, ids=[call for call, _ in CASES])
def test_a_wrong_argument_is_one_error_that_names_it(call, said, names, monkeypatch, tmp_path, unchecked_shapes):
    monkeypatch.chdir(tmp_path)
    held = names.keys() - {"s", "t", "mm"}
    call = call if re.match(r"\w+", call)[0] in held else f"mm.{call}"
    with pytest.raises(MechmemError, match=said) as caught:
        eval(call, names)  # the calls stand above
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert not any(tmp_path.iterdir()), "something was written"


def frozen(cls):
    found = [cls, *(each for sub in cls.__subclasses__() for each in frozen(sub))]
    return [each for each in found if dataclasses.is_dataclass(each) and each.__module__.startswith("mechmem.")]


PLUGINS = [cls for kind in KINDS for name, cls in sorted(plugins(kind).items()) if name == cls.name]
SETTINGS = [*(each for each in frozen(Config) if each.kind), *PLUGINS, mm.Role, mm.Roles, mm.Output]
WRONG = (
    None,
    True,
    5,
    2.5,
    "no such thing",
    (),
    [],
    {},
    object(),
    float,
    b"x",
    2**70,
    HUGE,
    float("nan"),
    float("inf"),
)


def default(field, cls):
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    needed = {"to": "quadratic", "parameter": "w", "pattern": "a -> a"}
    return needed[field.name] if field.default is dataclasses.MISSING else field.default


@pytest.mark.parametrize("cls", SETTINGS, ids=lambda cls: cls.__name__)
def test_every_setting_is_of_the_type_that_its_annotation_says(cls):
    """What is taken is of that type: no truth value is a number, no word is a truth value, and no number is lost."""
    given = {field.name: default(field, cls) for field in dataclasses.fields(cls) if field.init}
    cls(**given)
    taken = []
    for field in dataclasses.fields(cls):
        for value in WRONG:
            try:
                made = cls(**{**given, field.name: value})
            except MechmemError as error:
                assert "\n" not in str(error) and len(str(error)) < 600
                continue
            taken.append((field.name, value))
            held = getattr(made, field.name)
            assert (
                type(held) is type(given[field.name])
                or held is None
                or "|" in str(field.type)
                or "Union" in str(field.type)
                or isinstance(held, int | float)
                and not isinstance(held, bool)
            ), (field.name, value, held)
            assert not isinstance(held, float) or held == held, f"{field.name} is not a number"
            assert not isinstance(held, int) or abs(held) < 2**63
    assert len(taken) <= 3 * len(given), f"too much is taken: {taken}"


MADE_BY_MECHMEM = {
    name for name in mm.__all__ if hasattr(getattr(mm, name), "to_frame") or hasattr(getattr(mm, name), "save")
}
FREE = {
    ("sweep", "measure"),
    ("analyse", "settings"),
    ("reproduce", "tell"),
    ("activations", "points"),
    ("extractor", "name"),
}
"""Arguments that may be anything, or are told wrong only by what they are used for."""


def callables():
    for name in mm.__all__:
        value = getattr(mm, name)
        if (
            name in MADE_BY_MECHMEM
            or inspect.isabstract(value)
            or name in ("Attached", "Reduction", "Isolation", "NeuronSet")
        ):
            continue
        if dataclasses.is_dataclass(value):
            continue  # above
        for each in inspect.signature(value).parameters.values():
            if each.annotation not in ("Any", inspect.Parameter.empty) and (name, each.name) not in FREE:
                yield pytest.param(name, each.name, id=f"{name}-{each.name}")


class Stranger:
    """Something that no argument is."""


@pytest.mark.parametrize(("name", "argument"), list(callables()))
def test_every_argument_of_every_public_function_refuses_a_stranger(
    name, argument, names, monkeypatch, tmp_path, unchecked_shapes
):
    """Before anything else is done, and by its name; the other required arguments are right."""
    monkeypatch.chdir(tmp_path)
    function = getattr(mm, name)
    right = {
        "subject": names["s"],
        "subjects": names["s"],
        "receiver": names["s"],
        "config": names["config"],
        "configs": names["config"],
        "out": tmp_path / "out",
        "cards": [names["card"]],
        "task": names["task"],
        "model": names["model"],
        "steps": 3,
        "logits": names["logits"],
        "name": "suppression",
        "what": "raw",
        "entries": [(names["s"], names["card"])],
        "path": names["run"],
        "edits": ["low_rank"] if name == "sequence_edits" else mm.Edit("act"),
        "p": 7,
        "tokens": [[0, 1], [1, 0]],
        "sequences": [0],
        "prefix": 1,
        "networks": 2,
        "senders": "act",
        "part": "own",
        "table": names["table"],
        "score": "margin",
        "count": 2,
        "m": 0,
        "removed": {"a": [0]},
        "source": {},
        "cfg": {},
        "inputs": names["arrays"][0],
        "given": names["arrays"][1],
        "true": names["arrays"][2],
        "train": names["arrays"][3],
        "mask": torch.ones(3, dtype=torch.bool),
        "keep": 0.5,
        "width": 4,
        "images": np.zeros((3, 4, 4)),
        "labels": [0, 1, 2],
        "units": 4,
        "shared": 0.5,
        "loader": names["loader"],
        "memory": 0.5,
        "seed": 0,
        "decisions": pd.DataFrame({"id": [], "decision": [], "label": []}),
    }
    if name == "write_review":
        right["issues"] = mm.label_issues(names["s"])
    if name == "NextToken":
        right["task"] = mm.SequenceTask([[0, 1], [1, 0]])
    if name == "isolation":
        right["what"] = names["config"]
    if name == "DatasetTask":
        right["train"] = [(torch.full((2,), float(place)), 0) for place in range(9)]
    if name.endswith("Task") and name not in ("ArrayTask", "DatasetTask", "SequenceTask"):
        kinds = {
            "ModularTask": mm.ModularConfig(p=5),
            "GroupTask": mm.GroupConfig("Z5"),
            "ImageTask": mm.ImageConfig(),
            "GrammarTask": mm.GrammarConfig(),
        }
        right["config"] = kinds[name]
    parameters = inspect.signature(function).parameters.values()
    needed = {
        each.name: right[each.name]
        for each in parameters
        if each.default is each.empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        and each.name != argument
    }
    kind = inspect.signature(function).parameters[argument].kind
    with pytest.raises(MechmemError) as caught:
        if kind is inspect.Parameter.VAR_POSITIONAL:
            made = function(*needed.values(), Stranger())
        else:
            made = function(**needed, **{argument: Stranger()})
        if hasattr(made, "__enter__"):
            made.__enter__()
    said = str(caught.value)
    assert "\n" not in said and ("Stranger" in said or argument in said or argument.rstrip("s") in said), said


def test_checks_leave_a_call_as_it_is():
    @checked
    def add(a: int, *more: float, name: str = "sum", **rest: bool) -> tuple:
        """Add."""
        return a, more, name, rest

    assert add(1, 2, 2.5, name="x", yes=True) == (1, (2, 2.5), "x", {"yes": True})
    assert add.__name__ == "add" and str(inspect.signature(add)).startswith("(a: int")
    for wrong, said in (
        (lambda: add("a"), "add: a must be a whole number, got 'a'"),
        (lambda: add(1, "b"), "add: more must be a number, got 'b'"),
        (lambda: add(1, name=5), "add: name must be a string, got 5"),
        (lambda: add(1, yes=1), "add: yes must be True or False, got 1"),
        (lambda: add(2**63), "add: a must be at most 9,223,372,036,854,775,807, got 9223372036854775808"),
    ):
        with pytest.raises(ConfigError) as caught:
            wrong()
        assert str(caught.value) == said
    with pytest.raises(TypeError, match="missing 1 required"):
        add()


@pytest.mark.parametrize(
    ("value", "hint", "fit"),
    [
        (np.int64(3), int, True),
        (True, int, False),
        (np.bool_(True), bool, True),
        (1, bool, False),
        (np.float32(1), float, True),
        (3, float, True),
        (True, float, False),
        (HUGE, float, False),
        ("a", str, True),
        (b"a", str, False),
        (pathlib.Path("a"), pathlib.Path, True),
        ("a", pathlib.Path, False),
        ("a", str | pathlib.Path, True),
        ((1, 2), tuple[int, ...], True),
        ((1, "a"), tuple[int, ...], False),
        ([1], tuple[int, ...], False),
        ((1.0, 2), tuple[float, float], True),
        ((1.0,), tuple[float, float], False),
        (None, int | None, True),
        ({"a": 1}, dict[str, int], True),
        ({1: 1}, dict[str, int], False),
        (len, type(len), True),
    ],
)
def test_what_fits_an_annotation(value, hint, fit):
    assert fits(value, hint) is fit


def test_numbers_of_numpy_become_python_s():
    config = mm.TrainConfig(steps=np.int64(5), lr=np.float32(0.5), task=mm.ModularConfig(p=np.uint8(5)))
    assert type(config.steps) is int and type(config.lr) is float and type(config.task.p) is int
    assert config.digest == mm.TrainConfig(steps=5, lr=0.5, task=mm.ModularConfig(p=5)).digest
    assert type(mm.MLPConfig(bias=np.bool_(True)).bias) is bool


def test_a_plugin_of_another_package_is_checked_too():
    @dataclasses.dataclass(frozen=True)
    class Mine(Plugin):
        count: int = 3

        def __post_init__(self):
            assert self.count > 0

    assert Mine(count=2).count == 2
    with pytest.raises(ConfigError, match="Mine: count must be a whole number, got 'two'"):
        Mine(count="two")
