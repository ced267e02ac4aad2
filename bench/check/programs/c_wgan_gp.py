# control 1 3 4 70
import torch
from torch import nn

torch.manual_seed(0)
gen = nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Linear(24, 2))
critic = nn.Sequential(nn.Linear(2, 24), nn.LeakyReLU(0.2), nn.Linear(24, 1))
og, oc = torch.optim.RMSprop(gen.parameters(), 1e-3), torch.optim.RMSprop(critic.parameters(), 1e-3)
for step in range(30):
    for _ in range(3):
        real, fake = torch.randn(40, 2) + 2, gen(torch.randn(40, 3)).detach()
        mix = (real + torch.rand(40, 1) * (fake - real)).requires_grad_()
        slope = torch.autograd.grad(critic(mix).sum(), mix, create_graph=True)[0]
        loss = critic(fake).mean() - critic(real).mean() + 10 * (slope.norm(dim=1) - 1).pow(2).mean()
        oc.zero_grad()
        loss.backward()
        oc.step()
    og.zero_grad()
    lg = -critic(gen(torch.randn(40, 3))).mean()
    lg.backward()
    og.step()
    print(step, loss.item(), lg.item())
