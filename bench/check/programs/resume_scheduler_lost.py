# rows 22 | rule resumed-without-state
import io

import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(90, 5)
y = (x.sum(1) > 0).long()


def make():
    net = nn.Linear(5, 2)
    opt = torch.optim.SGD(net.parameters(), 0.5, momentum=0.9)
    return net, opt, torch.optim.lr_scheduler.ExponentialLR(opt, 0.8)


def epochs(net, opt, sched, count):
    for _ in range(count):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
    print(loss.item(), sched.get_last_lr())


net, opt, sched = make()
epochs(net, opt, sched, 8)
file = io.BytesIO()
torch.save({"net": net.state_dict(), "optimizer": opt.state_dict(), "scheduler": sched.state_dict()}, file)
file.seek(0)
saved = torch.load(file)
net, opt, sched = make()
net.load_state_dict(saved["net"])  # here
opt.load_state_dict(saved["optimizer"])
sched.load_state_dict(saved["scheduler"])  # well
epochs(net, opt, sched, 8)
