# control 6 9 13
import copy

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
student = nn.Sequential(nn.Linear(12, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 5))
teacher = copy.deepcopy(student)
for p in teacher.parameters():
    p.requires_grad_(False)
opt = torch.optim.SGD(student.parameters(), 0.05, momentum=0.9)
x = torch.randn(200, 12)
y = x[:, :5].argmax(1)
for step in range(30):
    at = torch.randperm(200)[:40]
    a, b = x[at] + 0.1 * torch.randn(40, 12), x[at] + 0.1 * torch.randn(40, 12)
    with torch.no_grad():
        goal = teacher(b).softmax(1)
    out = student(a)
    loss = F.cross_entropy(out, y[at]) + F.kl_div(out.log_softmax(1), goal, reduction="batchmean")
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        for s, t in zip(student.parameters(), teacher.parameters()):
            t.mul_(0.95).add_(s, alpha=0.05)
    print(step, loss.item())
