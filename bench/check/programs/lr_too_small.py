# rows 15 17 | rule step-without-effect
import torch
from torch import nn

torch.manual_seed(0)
cnn = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
lr = 1e-12  # fault
lr = 1e-2  # well
optimizer = torch.optim.Adam(cnn.parameters(), lr=lr)
images, labels = torch.randn(60, 1, 8, 8), torch.randint(0, 3, (60,))
for epoch in range(15):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(cnn(images), labels)
    loss.backward()
    optimizer.step()  # here
    print(epoch, loss.item())
